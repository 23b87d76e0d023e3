"""How many numbers each method says it trains, against counting them by hand."""

from dataclasses import replace

import pytest
import torch
from baselines_kit import MODULES, module, prior, subject
from safetensors.torch import load_file

from perfusion_core import perfusion
from perfusion_core.subject import Subject

WIDTH = 32  # of the text encoder of conftest.make_pipe


def trained(this, backbone, out, **changes):
    config = replace(this.MINIATURE, **{"steps": 1, "batch": 2, **changes})
    classes = prior() if this.PRIOR else None
    masks = torch.ones(3, 1, 16, 16)
    one = subject()
    who = Subject(one.name, one.super_category, one.images, masks)
    return this.fit(backbone, who, config, out, seed=0, prior=classes)["trainable"]


def in_files(folder):
    """Numbers in all tensors that a fit left."""
    total = 0
    for path in folder.rglob("*.safetensors"):
        total += sum(tensor.numel() for tensor in load_file(path).values())
    return total


def side_widths(backbone):
    """Outputs of K (or V) of each cross-attention, from the plain weights' shapes."""
    weights = backbone.unet.state_dict()
    return [len(w) for name, w in weights.items() if name.endswith("attn2.to_v.weight")]


def by_hand(name, backbone):
    weights = backbone.unet.state_dict()
    sides = side_widths(backbone)
    if name == "ti":
        return WIDTH
    if name == "xti":
        return WIDTH * len(sides)
    if name == "cd":  # K and V of every cross-attention, and one embedding
        return 2 * sum(WIDTH * wide for wide in sides) + WIDTH
    if name in ("lora", "pivotal"):  # two matrices of rank 4 beside every attention's projections
        ends = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")
        matrices = sum(4 * sum(w.shape) for n, w in weights.items() if n.endswith(ends))
        return matrices + (2 * WIDTH if name == "pivotal" else 0)  # and two words
    if name in ADAPTERS:
        ends = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")
        return sum(ADAPTERS[name](*w.shape) for n, w in weights.items() if n.endswith(ends))
    return sum(w.numel() for w in weights.values())


def kronecker(out, into):
    """Each side is split by 4; the smaller parts make the first matrix, the larger the second."""
    (a, c), (b, d) = (sorted((4, side // 4)) for side in (out, into))
    return a * b + c * d


def turns(out, into):
    """Four skew-symmetric matrices over the inputs."""
    side = into // 4
    return 4 * side * (side - 1) // 2


# numbers beside one weight [out, into], by the recipes for small models
ADAPTERS = {
    "dora": lambda out, into: 4 * (out + into) + out,
    "loha": lambda out, into: 2 * 8 * (out + into),
    "lokr": kronecker,
    "oft": turns,
}


@pytest.mark.parametrize("name", MODULES)
def test_a_baseline(name, tiny_backbone, tmp_path):
    told = trained(module(name), tiny_backbone, tmp_path)
    assert told == by_hand(name, tiny_backbone) == in_files(tmp_path)


@pytest.mark.parametrize(
    ("changes", "sides", "word"),
    [
        ({}, 1, WIDTH),
        ({"train_k": True}, 2, WIDTH),
        ({"vanilla_rome": True, "train_k": True}, 2, 0),
    ],
)
def test_perfusion(changes, sides, word, tiny_backbone, tiny_c_inv, tmp_path):
    """o_star of V, in variants of K too, and the word's embedding; i_star is a running mean."""
    told = trained(perfusion, tiny_backbone, tmp_path, **changes)
    assert told == sides * sum(side_widths(tiny_backbone)) + word
