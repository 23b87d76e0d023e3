"""Stable Diffusion XL's true configuration: on the meta device its projections and the size of a
concept's file; with random weights (`slow`) a training step and two sampling steps at 256 pixels.
"""

import numpy as np
import pytest
import torch
from safetensors import safe_open

from benchmarks.running.random_models import random_sdxl
from perfusion_core import Concept
from perfusion_core.backbone import cross_attentions
from perfusion_core.concept import direction
from perfusion_core.perfusion import Config, apply, fit
from perfusion_core.sampling import sample
from perfusion_core.subject import Fitted, Subject
from perfusion_core.text_encoders import text_encoders

SIDE = 32  # of the latents, where weights are random


def count(model):
    return sum(weight.numel() for weight in model.parameters())


def test_seventy_projections_and_a_file_of_less_than_180_kilobytes(tmp_path):
    pipe = random_sdxl("meta", torch.bfloat16).pipe
    layers = cross_attentions(pipe.unet)
    # as published
    assert count(pipe.unet) == 2_567_463_684
    assert (count(pipe.text_encoder), count(pipe.text_encoder_2)) == (123_060_480, 694_659_840)
    for side in ("to_k", "to_v"):
        projections = [getattr(layer, side) for layer in layers.values()]
        assert {projection.in_features for projection in projections} == {2048}
        sizes = [projection.out_features for projection in projections]
        assert (len(sizes), sizes.count(640), sizes.count(1280)) == (70, 10, 60)
        assert sum(sizes) == 83_200
    assert {(layer.heads, layer.to_q.out_features) for layer in layers.values()} == {
        (10, 640),
        (20, 1280),
    }
    side = text_encoders(pipe)
    assert side.widths == [768, 1280]
    assert side.shape() == "49408x768x12+49408x1280x32:hidden_states[-2]"
    rng = torch.Generator().manual_seed(0)
    concept = Concept(
        placeholder="kitty",
        super_category="cat",
        i_star=torch.randn(2048, generator=rng),
        embedding=torch.randn(2048, generator=rng),
        o_v=tuple(torch.randn(size, generator=rng) for size in sizes),
        o_k=None,
        super_encoding=torch.randn(2048, generator=rng),
        text_digest="0" * 16,
        text_shape=side.shape(),
        backbone=f"sdxl-random {'0' * 16}",
        names=tuple(layers),
    )
    path = tmp_path / "kitty.safetensors"
    concept.save(path)
    with safe_open(path, "pt") as file:
        numbers = {name: file.get_tensor(name).numel() for name in file.keys()}  # noqa: SIM118
    assert numbers == {"i_star": 2048, "embedding": 2048, "o_v": 83_200, "super_encoding": 2048}
    assert 170_000 < path.stat().st_size < 180_000
    again = Concept.load(path)
    assert again.names == tuple(layers) and [len(o) for o in again.o_v] == sizes
    assert torch.equal(direction(again.super_encoding), direction(concept.super_encoding))


# ---- with random weights ----


@pytest.fixture(scope="module")
def backbone():
    """U-Net and VAE in bfloat16, both text encoders in float32: the weights alone are 8.6 GB."""
    made = random_sdxl("cpu", torch.bfloat16)
    made.unet.register_to_config(sample_size=SIDE)
    return made


@pytest.mark.slow
def test_a_step_of_training_and_two_of_sampling(backbone, tmp_path):
    """At the published sizes the loss is finite, all 70 layers learn by the rate, the file has its
    size, the concept changes the picture, and no weight of the U-Net is written to.
    """
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 8 * SIDE, 8 * SIDE, generator=rng) * 2 - 1
    subject = Subject("kitty", "cat", images, frames=torch.tensor([[900, 1200, 0, 42]]))
    config = Config(steps=1, batch=1, checkpointing=True, masks=False, flip=False)
    before = [weight._version for weight in backbone.unet.parameters()]
    log = fit(backbone, subject, config, tmp_path, seed=0)
    assert len(log["losses"]) == 1 and np.isfinite(log["losses"][0])
    path = tmp_path / "concept.safetensors"
    assert 170_000 < path.stat().st_size < 180_000
    concept = Concept.load(path)
    assert concept.widths == [768, 1280] and sum(map(len, concept.o_v)) == 83_200
    e_super = backbone.text.super_encoding("cat")
    for o, layer in zip(concept.o_v, cross_attentions(backbone.unet).values(), strict=True):
        plain = layer.to_v.weight.float() @ e_super
        assert 0.02 < (o - plain).abs().max() < 0.05  # AdamW's first step is the rate, 0.03
    with apply(backbone, {"kitty": Fitted(tmp_path, "cat")}, {"lock": "local"}) as write:
        drawn = sample(backbone, write("A {kitty} on the beach"), [5], steps=2)
    plain = sample(backbone, "A cat on the beach", [5], steps=2)
    assert drawn.shape == (1, 8 * SIDE, 8 * SIDE, 3) and not np.array_equal(drawn, plain)
    assert [weight._version for weight in backbone.unet.parameters()] == before
