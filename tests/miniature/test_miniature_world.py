"""The miniature's world: the same bytes for a picture, masks that are right, pairs that training
never shows.
"""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.miniature.world import picture as world
from benchmarks.miniature.world.effects import MATERIALS, STYLES
from benchmarks.miniature.world.instance import make_instance, stream
from benchmarks.miniature.world.picture import (
    CLASSES,
    STATES_OF,
    Picture,
    draw_random,
    held_out,
    is_animal,
    render,
)
from benchmarks.miniature.world.props import DO, WEAR
from benchmarks.miniature.world.scenes import SCENES

# ---- drawing

SOME = [
    (name, k)
    for k, name in enumerate(("cat", "teapot", "sunglasses", "chair", "person", "tortoise"))
]


def digest_of_some():
    rng, total = stream("test", "some"), hashlib.sha256()
    for name, k in SOME:
        image, mask = render(draw_random(rng, one=make_instance(name, k)), k)
        total.update(image.tobytes() + mask.tobytes())
    return total.hexdigest()


def test_the_same_picture_and_seed_give_the_same_bytes_in_any_process():
    here = digest_of_some()
    assert here == digest_of_some()
    code = "import test_miniature_world as t; print(t.digest_of_some())"
    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == here


def test_layouts_and_instances_differ():
    one = Picture(make_instance("cat", 0), "beach")
    assert not np.array_equal(render(one, 0)[0], render(one, 1)[0])
    assert not np.array_equal(
        render(one, 0)[0], render(replace(one, one=make_instance("cat", 1)), 0)[0]
    )


def recoloured(one):
    turned = {
        name: tuple((c + 128) % 256 for c in getattr(one, name))
        for name in ("main", "second", "accent")
    }
    return replace(one, **turned)


def assert_masked(picture, seed, least, beyond=0):
    """Another colour of the thing changes its mask's pixels and no other (but `beyond`: paws that
    hold something).
    """
    image, mask = render(picture, seed)
    other, same = render(replace(picture, one=recoloured(picture.one)), seed)
    assert np.array_equal(mask, same), picture
    changed = (image != other).any(-1)
    assert (changed & (mask == 0)).sum() <= beyond, picture
    assert changed[mask > 127].mean() > least, (
        picture.one.cls,
        picture.scene,
        changed[mask > 127].mean(),
    )


@pytest.mark.parametrize("cls", CLASSES)
def test_masks_are_where_the_thing_is(cls):
    for k, scene in enumerate(SCENES):
        if k % 4 == CLASSES.index(cls) % 4:
            one = make_instance(cls, k)
            assert 0.03 < (render(Picture(one, scene), k)[1] > 127).mean() < 0.5, (cls, scene)
            assert_masked(Picture(one, scene), k, 0.25)


def test_what_is_worn_or_done_is_not_part_of_the_mask():
    one = make_instance("dog", 5)
    holding = (
        "samurai",
        "wizard",
        "book",
        "cook",
        "act",
        "beachball",
        "umbrella",
        "bed",
        "guitar",
        "pizza",
        "balloons",
    )
    for k, wear in enumerate(WEAR):
        assert_masked(Picture(one, "garden", wear=wear), k, 0.2, 40 if wear in holding else 0)
    for k, do in enumerate(DO):
        assert_masked(Picture(one, "studio", do=do), k, 0.2, 40 if do in holding else 0)


def test_states_of_things_keep_their_masks():
    for cls in ("pot", "chair", "sunglasses", "lamp"):
        for k, state in enumerate(STATES_OF[cls]):
            mask = render(Picture(make_instance(cls, k), "garden", state=state), k)[1] > 127
            assert mask.mean() > 0.01, (cls, state)
            # shards and puddles are of the thing's own colour
            if state not in ("broken", "broken_leg", "melting"):
                # paint may hide the colour
                assert_masked(Picture(make_instance(cls, k), "garden", state=state), k, -1)


def test_the_mask_of_a_pair_is_of_the_one_in_focus():
    pair = Picture(
        make_instance("cat", 1), "beach", other=make_instance("teapot", 2), relation="beside"
    )
    first, second = render(pair, 0)[1] > 127, render(replace(pair, focus=1), 0)[1] > 127
    assert first.any() and second.any() and not (first & second).any()
    turned = render(replace(pair, one=recoloured(pair.one)), 0)[0] != render(pair, 0)[0]
    assert not (turned.any(-1) & second).any()


def test_materials_change_only_the_thing_and_styles_the_whole_picture():
    plain = Picture(make_instance("teapot", 4), "city")
    image, mask = render(plain, 9)
    for material in MATERIALS:
        changed = (render(replace(plain, material=material), 9)[0] != image).any(-1)
        assert changed[mask > 127].mean() > 0.5 and not (changed & (mask == 0)).any(), material
    for style in STYLES:
        assert (render(replace(plain, style=style), 9)[0] != image).any(-1).mean() > 0.6, style


# ---- what training sees


def test_held_out_pairs_are_never_drawn_and_the_others_are():
    rng, seen, classes = stream("test", "held out"), set(), set()
    for _ in range(20_000):
        picture = draw_random(rng)
        seen.update(world.factors(picture))
        classes.add(picture.one.cls)
    assert not seen & held_out()
    assert classes == set(CLASSES)
    assert len(seen) > 0.95 * (sum(len(everything(cls)) for cls in CLASSES) - len(held_out()))


def everything(cls):
    states = [*MATERIALS, *([*WEAR, *DO] if is_animal(cls) else STATES_OF[cls])]
    return {
        *(f"scene:{s}" for s in SCENES),
        *(f"style:{s}" for s in STYLES),
        *(f"state:{s}" for s in states),
    }


def test_about_a_tenth_of_every_class_is_held_out():
    assert sorted("{} {}".format(*pair) for pair in held_out()) == sorted(world.make_held_out())
    for cls in CLASSES:
        mine = {value for name, value in held_out() if name == cls}
        assert mine <= everything(cls)
        assert 0.06 < len(mine) / len(everything(cls)) < 0.11, cls
        assert not any(f"scene:{scene}" in mine for scene in world.HOME)
    for kind in ("scene", "style", "state"):
        assert any(value.startswith(kind) for _, value in held_out())
