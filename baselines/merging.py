"""Custom Diffusion's closed-form merge: K and V of several concepts in, one K and V for all of them
out.

Their Sec. 3.2; the target encodings as in the authors' composenW.py.
"""

from collections.abc import Mapping

import torch

from baselines.captions import captions
from baselines.parts import spelled
from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.covariance import inverse
from perfusion_core.prompts import Word

TEXT = "photo of a {}"  # what Custom Diffusion trains on; README: --instance_prompt
SAME = 1e-10  # encodings that are one to float32, of concepts that have hardly moved, count once
Weights = dict[str, tuple[torch.Tensor, torch.Tensor]]  # K and V of each layer, [d_out, d]


def merge(
    weight: torch.Tensor, targets: torch.Tensor, outputs: torch.Tensor, c_inv: torch.Tensor
) -> torch.Tensor:
    """W + (V* - W K*)(D K*)^-1 D with D = K*^T C^-1, in float64: what W gives on captions moves
    least.

    weight [d_out, d], K* = targets [d, m], V* = outputs [d_out, m], C^-1 [d, d].
    """
    weight, targets, outputs, c_inv = (t.double() for t in (weight, targets, outputs, c_inv))
    d = targets.T @ c_inv  # [m, d]
    dk_inv = torch.linalg.pinv(d @ targets, rtol=SAME, hermitian=True)
    return weight + (outputs - weight @ targets) @ dk_inv @ d


@torch.no_grad()
def merged(
    backbone: Backbone,
    fitted: Mapping[str, Weights],
    words: Mapping[str, Word],
    written: Mapping[str, str],
) -> Weights:
    """K and V that give every concept's own outputs on its own words, and nearly the base's on
    anything else.
    """
    plain = torch.cat(tokens(backbone, captions(), {}))  # [tokens, d]
    c_inv, _ = inverse(plain.T @ plain)  # as Perfusion's C: condition number 1e4 at most
    # [m, d] each
    targets = {name: torch.cat(said(backbone, name, text, words)) for name, text in written.items()}
    together = torch.cat(list(targets.values())).T  # K*
    result: Weights = {}
    for layer_name, layer in cross_attentions(backbone.unet).items():
        both = []
        for n, side in enumerate((layer.to_k, layer.to_v)):
            outputs = [w[layer_name][n].to(c_inv) @ targets[name].T for name, w in fitted.items()]
            both.append(merge(side.weight, together, torch.cat(outputs, dim=1), c_inv).float())
        result[layer_name] = (both[0], both[1])
    return result


def said(backbone: Backbone, name: str, text: str, words: Mapping[str, Word]) -> list[torch.Tensor]:
    """Encodings of a concept's words, alone and after `photo of a`, from <new1> to the end token
    (composenW.py).
    """
    whole = tokens(backbone, [text, TEXT.format(text)], words)
    return [encodings[-len(whole[0]) :] for encodings in whole]


def tokens(backbone: Backbone, texts: list[str], words: Mapping[str, Word]) -> list[torch.Tensor]:
    """Encodings [m, d] in float64 of each text's tokens after the first, up to and with the end
    token.
    """
    encodings = backbone.text.encode(texts, words).encodings
    filled = [spelled({name: word.text for name, word in words.items()})(text) for text in texts]
    lengths = [sum(mask) for mask in backbone.tokenizer(filled, truncation=True).attention_mask]
    return [encoding[1:length].double() for encoding, length in zip(encodings, lengths)]
