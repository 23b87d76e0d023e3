"""What Custom Diffusion learns: K, V and one embedding; their place in the U-Net, and their files.

In: a backbone, or a fit's folder. Out: a `Student` for the shared loop; K and V put into the U-Net
for a while.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import linear

from baselines.fitting import refuse_misfit, shapes_of, tensors_in, word_shapes
from baselines.merging import Weights, merged
from baselines.parts import (
    assert_only,
    embedding_of,
    embedding_tensors,
    spelled,
    spoken,
    stamps,
)
from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.files import write_tensors
from perfusion_core.prompts import Word, super_token, token_vector
from perfusion_core.subject import Fitted
from perfusion_core.training import Write

FILE, TOKEN = "pytorch_custom_diffusion_weights.safetensors", "<new1>"  # diffusers' names
# train_custom_diffusion.py: the first --initializer_token, whose embedding <new1> starts from
RARE = "ktn"
# the token under <new1>; never seen, because the vector is written over its embedding
CARRIER = "a"


class FirstTokenDetached(nn.Module):
    """A K or V in training: the first token's output, which every prompt shares, gives no
    gradient.
    """

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(plain.weight.detach().float().clone())

    def forward(self, encodings: torch.Tensor) -> torch.Tensor:
        out = linear(encodings, self.weight)
        return torch.cat([out[:, :1].detach(), out[:, 1:]], dim=1)


class Student:
    """What is learned, and its place in the U-Net."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.layers = cross_attentions(backbone.unet)
        self.vector = first_vector(backbone)
        self.sides = {
            name: (FirstTokenDetached(layer.to_k), FirstTokenDetached(layer.to_v))
            for name, layer in self.layers.items()
        }

    def parameters(self) -> list[nn.Parameter]:
        return [self.vector, *(side.weight for sides in self.sides.values() for side in sides)]

    def save(self, folder: Path) -> None:
        """diffusers' layout: an empty entry for each attention that is not trained, or it will not
        open the file.
        """
        tensors = {
            f"{name}.processor.to_{side}_custom_diffusion.weight": module.weight
            for name, sides in self.sides.items()
            for side, module in zip("kv", sides)
        }
        others = [
            key
            for key in self.backbone.unet.attn_processors
            if key.removesuffix(".processor") not in self.sides
        ]
        tensors |= {key: torch.empty(0) for key in others}
        write_tensors(folder / FILE, tensors, {"format": "pt"})
        word = embedding_tensors(self.backbone, TOKEN, self.vector)
        write_tensors(folder / f"{TOKEN}.safetensors", word, {"format": "pt"})


def first_vector(backbone: Backbone) -> nn.Parameter:
    """The script asks the vocabulary: CLIP's `ktn` (42170) is a piece of words. Where there is
    none, the word's own. Of two text encoders, both are asked.
    """
    rows = []
    for reader in backbone.text.readers:
        token = reader.tokenizer.get_vocab().get(RARE)
        if token is None:
            token = super_token(reader.tokenizer, RARE)
        rows.append(token_vector(reader.model, token))
    return nn.Parameter(torch.cat(rows))


@contextmanager
def placed(backbone: Backbone, sides: Mapping[str, tuple[nn.Module, nn.Module]]) -> Iterator[None]:
    """Other K and V in the cross-attentions, for the duration."""
    layers = cross_attentions(backbone.unet)
    kept = {name: (layer.to_k, layer.to_v) for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer.to_k, layer.to_v = sides[name]
        yield
    finally:
        for name, layer in layers.items():
            layer.to_k, layer.to_v = kept[name]


def load(folder: Path) -> tuple[Weights, torch.Tensor]:
    """-> K and V of each layer, the embedding."""
    tensors = load_file(folder / FILE)
    key = ".processor.to_{}_custom_diffusion.weight".format
    names = [name.removesuffix(key("k")) for name in tensors if name.endswith(key("k"))]
    vector = embedding_of(load_file(folder / f"{TOKEN}.safetensors"))
    return {name: (tensors[name + key("k")], tensors[name + key("v")]) for name in names}, vector


def refuse_foreign(backbone: Backbone, method: str, folder: Path) -> None:
    """Files of another method or model; attentions that are not trained have empty entries."""
    sides, word = folder / FILE, folder / f"{TOKEN}.safetensors"
    wanted = {
        f"{name}.processor.to_{side}_custom_diffusion.weight": tuple(layer.weight.shape)
        for name, attention in cross_attentions(backbone.unet).items()
        for side, layer in (("k", attention.to_k), ("v", attention.to_v))
    }
    found = {name: one for name, one in tensors_in(sides).items() if one.numel()}
    refuse_misfit(method, backbone, sides, shapes_of(found), wanted)
    told = shapes_of(tensors_in(word))
    refuse_misfit(method, backbone, word, told, word_shapes(backbone, told, TOKEN))


def as_layer(weight: torch.Tensor, like: nn.Linear) -> nn.Linear:
    layer = nn.Linear(like.in_features, like.out_features, bias=False, device="meta")
    layer.weight = nn.Parameter(weight.to(like.weight), requires_grad=False)
    return layer


@contextmanager
def applied(backbone: Backbone, method: str, fits: Mapping[str, Fitted]) -> Iterator[Write]:
    """`<new1> <super-category>` for each placeholder; K and V of one concept, or of all merged."""
    for fitted in fits.values():
        refuse_foreign(backbone, method, fitted.folder)
    loaded = {name: load(fitted.folder) for name, fitted in fits.items()}
    words = {
        name: Word(CARRIER, vector.to(backbone.device)) for name, (_, vector) in loaded.items()
    }
    written = {name: f"{{{name}}} {fitted.super_category}" for name, fitted in fits.items()}
    weights = next(iter(loaded.values()))[0]
    if len(fits) > 1:
        weights = merged(backbone, {name: w for name, (w, _) in loaded.items()}, words, written)
    before = stamps(backbone)
    plain = {
        name: (layer.to_k, layer.to_v) for name, layer in cross_attentions(backbone.unet).items()
    }
    sides = {
        name: (as_layer(k, plain[name][0]), as_layer(v, plain[name][1]))
        for name, (k, v) in weights.items()
    }
    mine = {f"unet.{name}.{side}.weight" for name in sides for side in ("to_k", "to_v")}
    with ExitStack() as stack:
        stack.enter_context(placed(backbone, sides))
        stack.enter_context(spoken(backbone, words))
        assert_only(before, backbone, lambda weight: weight in mine)
        for name, layer in cross_attentions(backbone.unet).items():
            for old, new in zip(plain[name], (layer.to_k, layer.to_v)):
                assert not torch.equal(old.weight, new.weight), f"{name} is the base model's"
        yield spelled(written)
