"""The text encoder: a contrastive loss against pictures, and one that keeps words apart.

In: a workshop. Out: the stage `text` on disk; the encoder, averaged and frozen.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import CLIPTokenizer

from benchmarks.miniature.training import networks
from benchmarks.miniature.training.stage import Stage
from benchmarks.miniature.training.workshop import Loss, Step, Workshop

SEED = 1
SCALE = 14  # of the cosines, about where CLIP's own begins
DROP_WORD = 0.05  # captions without the object's word
Read = tuple[torch.Tensor, torch.Tensor]


def text_modules(shop: Workshop) -> dict[str, Any]:
    """The encoder, and what only training needs: a network that looks at pictures, and two
    heads.
    """
    from open_clip.model import ModifiedResNet

    shop.seed(SEED)
    width = networks.TEXT_WIDTH
    text: Any = networks.make_text_encoder(shop.tokenizer)
    return {
        "text": text.to(shop.device),
        "look": ModifiedResNet([1, 1, 1, 1], width, 16, 64, 16).to(
            shop.device, memory_format=shop.layout
        ),
        "project": torch.nn.Linear(width, width, bias=False).to(shop.device),
        "own": torch.nn.Linear(width, len(shop.tokenizer)).to(shop.device),
    }


def train_text_encoder(shop: Workshop, minutes: float) -> None:
    m, recipe = text_modules(shop), shop.recipe
    stage = Stage(m, shop.file("text"), lr=recipe.text_lr)
    m["look"].train()
    reader = shop.compiled(m["text"])

    def read(ids: torch.Tensor) -> Read:
        out = reader(ids)
        return m["project"](out.pooler_output), out.last_hidden_state

    shop.loop(stage, "text", minutes, matching(shop, read, m["look"], m["own"]))


def matching(shop: Workshop, read: Callable[[torch.Tensor], Read], look: Any, own: Any) -> Step:
    """What a step learns: which caption is of which picture, and at every position which token
    stands there. `read`: ids -> what is said of the whole text [n, p], and its encodings [n, M, d].
    """
    recipe, look = shop.recipe, shop.compiled(look)

    def step(rng: np.random.Generator) -> Loss:
        # Pictures and their captions.
        index = shop.batch(rng, recipe.text_batch)
        ids = shop.texts(index, rng, DROP_WORD)
        if shop.device.type == "cpu":  # attention is causal: pads behind change nothing
            ids = ids[:, : int(is_text(ids, shop.tokenizer).sum(1).max())]
        # Both towers look.
        with shop.half():
            whole, encodings = read(ids)
            seen = F.normalize(look(shop.images(index) * 2), dim=-1)
            said = F.normalize(whole, dim=-1)
            guess = own(encodings)
        # Contrastive loss, both ways.
        logits = SCALE * said.float() @ seen.float().T  # [batch, batch]
        same = torch.arange(len(index), device=shop.device)
        clip = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
        # Every position, its token.
        own_word = ids.masked_fill(~is_text(ids, shop.tokenizer), -100)
        token = F.cross_entropy(guess.float().flatten(0, 1), own_word.flatten(), ignore_index=-100)
        hit = (logits.argmax(1) == same).float().mean()
        return clip + recipe.own_token * token, {"clip": clip, "own": token, "hit": hit}

    return step


def trained_text_encoder(shop: Workshop) -> Any:
    """The trained text encoder, averaged, frozen."""
    m = text_modules(shop)
    shop.average("text", m)
    return m["text"].eval().requires_grad_(False)


def is_text(ids: torch.Tensor, tokenizer: CLIPTokenizer) -> torch.Tensor:
    """Where a sequence is text: from the begin token to the first end token, pads left out."""
    ended = (ids == tokenizer.eos_token_id).int().cumsum(1)
    return (ended == 0) | ((ended == 1) & (ids == tokenizer.eos_token_id))
