"""Stable Diffusion 1.5's true configuration with random weights: published sizes, a training step,
two sampling steps.

5.6 GB of memory, 144 s of processor time. Pictures are of 128 pixels: 512 would take far too long
on a CPU.
"""

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sd_kit import pipe_of

from perfusion_core import single_file
from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.concept import Concept
from perfusion_core.covariance import FILE, estimate
from perfusion_core.perfusion import Config, apply, fit
from perfusion_core.sampling import sample
from perfusion_core.subject import Fitted, Subject

pytestmark = pytest.mark.slow
SIDE = 16  # of the latents
CAPTIONS = [
    "a very long caption about a cat, a teapot and a chair that stand in a garden by the sea " * 4
] * 24


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    layout = single_file.layouts()[768]
    place = tmp_path_factory.mktemp("sd") / "sd15-random"
    place.mkdir()
    single_file.write_layout(layout, place)
    pipe = pipe_of(layout)
    for model in (pipe.unet, pipe.vae, pipe.text_encoder):
        model.requires_grad_(False)
    backbone = Backbone("sd15-random", place, None, pipe, torch.device("cpu"), torch.float32)
    estimate(backbone, CAPTIONS, place / FILE, source="one sentence", batch=8)
    pipe.unet.register_to_config(sample_size=SIDE)
    return backbone


def test_sixteen_and_sixteen_projections_of_the_published_sizes(sd15):
    layers = cross_attentions(sd15.unet)
    assert len(layers) == 16
    for side in ("to_k", "to_v"):
        projections = [getattr(layer, side) for layer in layers.values()]
        assert {projection.in_features for projection in projections} == {768}
        sizes = [projection.out_features for projection in projections]
        # down 320 320 640 640 1280 1280, up 1280 x3 640 x3 320 x3, mid 1280
        assert sizes == [320] * 2 + [640] * 2 + [1280] * 2 + [1280] * 3 + [640] * 3 + [320] * 3 + [
            1280
        ]
        assert sum(sizes) == 12480
    assert (sd15.size, sd15.down, sd15.tokenizer.model_max_length) == (SIDE * 8, 8, 77)
    assert sd15.encode(["a cat"]).shape == (1, 77, 768)


def test_a_step_of_training_two_of_sampling_and_the_file(sd15, tmp_path):
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, SIDE * 8, SIDE * 8, generator=rng) * 2 - 1
    masks = torch.rand(2, 1, SIDE * 8, SIDE * 8, generator=rng)
    before = {name: weight.double().sum().item() for name, weight in sd15.unet.named_parameters()}
    config = Config(steps=1, batch=2, checkpointing=True)
    log = fit(sd15, Subject("kitty", "cat", images, masks), config, tmp_path, seed=0)
    assert len(log["losses"]) == 1 and np.isfinite(log["losses"][0])
    path = tmp_path / "concept.safetensors"
    with safe_open(path, "pt") as file:
        numbers = {name: file.get_tensor(name).numel() for name in file.keys()}  # noqa: SIM118
    assert numbers == {"i_star": 768, "embedding": 768, "o_v": 12480, "super_encoding": 768}
    concept = Concept.load(path)
    supers = [
        layer.to_v.weight @ sd15.encode(["A photo of a cat"])[0, 5]
        for layer in cross_attentions(sd15.unet).values()
    ]
    moved = [(o - plain).abs().max().item() for o, plain in zip(concept.o_v, supers, strict=True)]
    # AdamW's first step is the rate, 0.03, in each of 16 layers
    assert all(0.02 < most < 0.05 for most in moved)
    concept.save(tmp_path / "full.safetensors", torch.float32)
    assert path.stat().st_size < 30_000 and (tmp_path / "full.safetensors").stat().st_size < 60_000
    with apply(sd15, {"kitty": Fitted(tmp_path, "cat")}, {"lock": "local", "bias": 0.6}) as write:
        drawn = sample(sd15, write("A {kitty} on the beach"), [5], steps=2)
    plain = sample(sd15, "A cat on the beach", [5], steps=2)
    assert drawn.shape == (1, SIDE * 8, SIDE * 8, 3) and not np.array_equal(drawn, plain)
    assert {
        name: weight.double().sum().item() for name, weight in sd15.unet.named_parameters()
    } == before
