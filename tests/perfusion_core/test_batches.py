"""Batches of one fixed shape: a picture's bytes do not depend on what is drawn beside it, on its
place, or on the number of threads.
"""

import numpy as np
import pytest
import torch

from benchmarks.paths import miniature_dir
from perfusion_core.backbone import Backbone
from perfusion_core.batches import rows_are_apart
from perfusion_core.editing import load_concepts
from perfusion_core.sampling import AttentionMaps, draw, prepared, sample

TEXTS = [
    f"A {what} {where}" for what in ("cat", "teapot", "chair") for where in ("", "in a garden")
]
SEEDS = list(range(11, 11 + len(TEXTS)))


@pytest.fixture(params=["float32", "bfloat16"])
def miniature(request):
    return Backbone.open(miniature_dir(), device="cpu", dtype=request.param)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_of_the_shipped_models(miniature, threads):
    """Six pictures in batches of four: together, alone, backwards. With one thread and with two in
    the protocol's batches of 32 rows: on Zen 3 in float32 and with two threads, 8 rows differ by
    one grey level in ten of 73,728 numbers, and 5 rows are not apart.
    """
    threads(1)
    wide = sample(miniature, TEXTS, SEEDS, steps=2, rows=32)
    together = sample(miniature, TEXTS, SEEDS, steps=2, rows=8)
    backwards = sample(miniature, TEXTS[::-1], SEEDS[::-1], steps=2, rows=8)[::-1]
    assert np.array_equal(together, backwards)
    for number in (0, 5):
        alone = sample(miniature, TEXTS[number], [SEEDS[number]], steps=2, rows=8)
        assert np.array_equal(alone[0], together[number])
    threads(2)
    assert np.array_equal(wide, sample(miniature, TEXTS, SEEDS, steps=2, rows=32))
    assert rows_are_apart(miniature, 32, 6.0) and rows_are_apart(miniature, 32, 1.0)


def test_operating_points_and_plain_words_share_a_batch(tiny_backbone, tiny_c_inv):
    from test_sampling import make_concept

    concept, wanted, alone = {"teddy": make_concept(tiny_backbone)}, [], []
    for lock, bias in (("local", 0.3), ("global", 0.6)):
        with load_concepts(tiny_backbone.pipe, concept, lock, bias=bias):
            wanted += prepared(tiny_backbone, ["A {teddy} on a hill"], [3], 6.0)
            alone.append(sample(tiny_backbone, "A {teddy} on a hill", [3], steps=3, rows=6))
    wanted += prepared(tiny_backbone, ["A cat"], [3], 6.0)
    alone.append(sample(tiny_backbone, "A cat", [3], steps=3, rows=6))
    together = draw(tiny_backbone, wanted, steps=3, guidance=6.0, rows=6)
    assert np.array_equal(together, np.concatenate(alone))
    assert len(np.unique(together, axis=0)) == 3


def test_what_fills_a_batch_up_is_thrown_away(tiny_backbone):
    seen, maps = [], AttentionMaps()
    look = tiny_backbone.unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    pictures = sample(
        tiny_backbone, TEXTS[:3], [1, 2, 3], steps=1, guidance=1.0, rows=2, attention=maps
    )
    assert seen == [2, 2] and len(pictures) == 3 and len(maps.maps) == 3
    look.remove()
    one = AttentionMaps()
    sample(tiny_backbone, TEXTS[2], [3], steps=1, guidance=1.0, rows=2, attention=one)
    assert torch.equal(one.maps[0], maps.maps[2])


def test_rows_that_see_each_other_are_found(tiny_backbone):
    assert rows_are_apart(tiny_backbone, 6, 6.0)
    spoilt = tiny_backbone.unet.register_forward_pre_hook(
        lambda _, args: (args[0] + 1e-3 * args[0].mean(), *args[1:])
    )
    assert not rows_are_apart(tiny_backbone, 6, 6.0)
    spoilt.remove()
    decoder = tiny_backbone.vae.decoder
    spoilt = decoder.register_forward_hook(lambda _, __, out: out + out[:1])
    assert not rows_are_apart(tiny_backbone, 6, 6.0)
    spoilt.remove()
