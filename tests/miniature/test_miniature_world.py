"""The world of the miniature: prompts are drawn, masks are right, training never shows what is held out."""

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.miniature.world import language
from benchmarks.miniature.world import picture as world
from benchmarks.miniature.world.canvas import COLORS
from benchmarks.miniature.world.effects import MATERIALS, STYLES
from benchmarks.miniature.world.instance import make_instance, stream
from benchmarks.miniature.world.language import RARE, caption, read
from benchmarks.miniature.world.picture import (
    CLASSES,
    POOL,
    STATES_OF,
    Picture,
    draw_random,
    held_out,
    is_animal,
    render,
)
from benchmarks.miniature.world.props import DO, WEAR
from benchmarks.miniature.world.scenes import SCENES
from benchmarks.suite.catalog import fill, load_catalog
from perfusion_core.errors import UserError


@pytest.fixture(scope="module")
def catalog():
    return load_catalog("miniature")


@pytest.fixture(scope="module")
def said():
    """What training is told, as it is drawn: (picture, caption)."""
    rng = stream("test", "captions")
    pictures = [draw_random(rng) for _ in range(4000)]
    return [(picture, caption(picture, rng)) for picture in pictures for _ in range(3)]


# ---- prompts


def test_every_prompt_of_every_concept_is_read_and_prompts_of_a_concept_differ(catalog):
    total = 0
    for concept in catalog.concepts:
        prompts = catalog.prompts_for(concept)
        pictures = [read(fill(prompt.template, concept.super_category), seed=0) for prompt in prompts]
        assert len(set(pictures)) == len(prompts), concept.name
        assert all(concept.super_category in (p.one.cls, p.other and p.other.cls) for p in pictures)
        total += len(prompts)
    assert {concept.super_category for concept in catalog.concepts} == set(world.CONCEPT_CLASSES)
    assert total == 7 * (19 + 30) + 2 * (19 + 16) + (19 + 11) + (19 + 10)


def test_all_86_prompts_are_drawn_and_no_two_of_a_group_look_alike(catalog):
    first = {concept.group: concept for concept in reversed(catalog.concepts)}
    seen = set()
    for concept in first.values():
        prompts = catalog.prompts_for(concept)
        drawn = [render(read(fill(p.template, concept.super_category), seed=1), "same layout")[0] for p in prompts]
        assert len({image.tobytes() for image in drawn}) == len(prompts), concept.group
        assert min(image.std() for image in drawn) > 8  # something is there
        seen |= {prompt.id for prompt in prompts}
    assert len(seen) == 86 == len(catalog.prompts)


def test_validation_prompts_and_pairs_are_drawn(catalog):
    assert len(catalog.validation) == 8 and len(catalog.pairs) == 10
    for k, prompt in enumerate(catalog.validation):
        cls = catalog.concepts[k % len(catalog.concepts)].super_category
        assert render(read(fill(prompt.template, cls)), k)[0].std() > 8
    drawn = 0
    for a in catalog.concepts:
        for b in catalog.concepts:
            for pair in catalog.pairs_for(a, b) if a is not b else ():
                text = pair.template.replace("{a}", a.super_category).replace("{b}", b.super_category)
                picture = read(text)
                assert {picture.one.cls, picture.other.cls} == {a.super_category, b.super_category}, text
                if (drawn := drawn + 1) % 12 == 0:
                    assert render(picture, text)[0].std() > 8
    assert drawn > 300


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("A cat dressed in a blue suit is cooking a gourmet meal", {"wear": "suit", "do": "cook", "scene": "kitchen"}),
        ("A dog is playing with a ball in the water", {"do": "beachball", "scene": "water", "other": None}),
        ("A teddy is acting in a play wearing a costume", {"do": "act", "wear": "costume", "scene": "stage"}),
        ("A puppy wearing a party hat next to a birthday cake", {"wear": "partyhat", "do": "cake", "other": None}),
        ("A tortoise rowing a boat on a lake", {"do": "boat", "scene": "water"}),
        ("A teapot lying on its side and spilling water", {"state": "spilling"}),
        ("A golden chair", {"material": "gold", "state": None}),
        ("A ghibli inspired oil painting of a chair", {"style": "oil"}),
        ("A chair with feathered wings", {"state": "feathers", "wear": None}),
        ("A toy in front of the Eiffel tower", {"scene": "eiffel"}),
        ("A pot next to a ball", {"relation": "beside", "scene": None}),
        ("A dog is sailing inside a pot in a lake", {"relation": "inside", "scene": "water"}),
        ("A cat sitting by the fire with a teapot on a chilly night", {"relation": "beside", "scene": "campfire"}),
        ("The cat is engraved on a teapot", {"relation": "engraved"}),
        ("Watercolor painting of cat sitting on chair", {"relation": "on", "style": "watercolor"}),
    ],
)
def test_prompts_mean_what_they_say(prompt, wanted):
    picture = read(prompt)
    got = {name: getattr(picture, name) for name in wanted}
    if wanted.get("scene", "") is None:
        assert got.pop("scene") in world.HOME
        wanted = {name: value for name, value in wanted.items() if name != "scene"}
    assert got == wanted


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("A dog juggling on the moon", "no drawing for 'juggling'"),
        ("A unicorn on the beach", "unicorn"),
        ("On the beach", "thing in the prompt"),
        ("A cat and a dog and a car", "at most two things"),
    ],
)
def test_words_without_a_drawing_are_told(prompt, sentence):
    with pytest.raises(UserError, match=sentence):
        read(prompt)


# ---- drawing

SOME = [(name, k) for k, name in enumerate(("cat", "teapot", "sunglasses", "chair", "person", "tortoise"))]


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
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == here


def test_layouts_and_instances_differ():
    one = Picture(make_instance("cat", 0), "beach")
    assert not np.array_equal(render(one, 0)[0], render(one, 1)[0])
    assert not np.array_equal(render(one, 0)[0], render(replace(one, one=make_instance("cat", 1)), 0)[0])


def recoloured(one):
    turned = {name: tuple((c + 128) % 256 for c in getattr(one, name)) for name in ("main", "second", "accent")}
    return replace(one, **turned)


def assert_masked(picture, seed, least, beyond=0):
    """Another colour of the thing changes its mask's pixels and no other (but `beyond`: paws that hold something)."""
    image, mask = render(picture, seed)
    other, same = render(replace(picture, one=recoloured(picture.one)), seed)
    assert np.array_equal(mask, same), picture
    changed = (image != other).any(-1)
    assert (changed & (mask == 0)).sum() <= beyond, picture
    assert changed[mask > 127].mean() > least, (picture.one.cls, picture.scene, changed[mask > 127].mean())


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
            if state not in ("broken", "broken_leg", "melting"):  # shards and puddles are of the thing's own colour
                assert_masked(Picture(make_instance(cls, k), "garden", state=state), k, -1)  # paint may hide the colour


def test_the_mask_of_a_pair_is_of_the_one_in_focus():
    pair = Picture(make_instance("cat", 1), "beach", other=make_instance("teapot", 2), relation="beside")
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
    return {*(f"scene:{s}" for s in SCENES), *(f"style:{s}" for s in STYLES), *(f"state:{s}" for s in states)}


def test_about_a_tenth_of_every_class_is_held_out():
    assert sorted("{} {}".format(*pair) for pair in held_out()) == sorted(world.make_held_out())
    for cls in CLASSES:
        mine = {value for name, value in held_out() if name == cls}
        assert mine <= everything(cls)
        assert 0.06 < len(mine) / len(everything(cls)) < 0.11, cls
        assert not any(f"scene:{scene}" in mine for scene in world.HOME)
    for kind in ("scene", "style", "state"):
        assert any(value.startswith(kind) for _, value in held_out())


# ---- captions


@pytest.fixture(scope="module")
def tokenizer(said, tmp_path_factory):
    """As the recipe makes it, of fewer captions; and the shipped one where weights are there."""
    from benchmarks.miniature.training.networks import make_tokenizer
    from benchmarks.paths import miniature_dir

    made = [make_tokenizer([text for _, text in said], tmp_path_factory.mktemp("tokenizer"))]
    if (miniature_dir() / "tokenizer").is_dir():
        from transformers import CLIPTokenizer

        made.append(CLIPTokenizer.from_pretrained(miniature_dir() / "tokenizer"))
    return made


def test_captions_and_prompts_fit_into_32_tokens(said, tokenizer, catalog):
    texts = [text for _, text in said]
    for concept in catalog.concepts:
        texts += [fill(p.template, concept.super_category) for p in catalog.prompts_for(concept)]
        texts += [fill(t, concept.super_category) for t in catalog.templates]
    texts += [p.template.replace("{a}", "tortoise").replace("{b}", "sunglasses") for p in catalog.pairs]
    for each in tokenizer:
        assert max(map(len, each(texts).input_ids)) <= 32  # with begin and end, nothing cut off


def test_words_of_concepts_colours_and_the_reserved_ones_are_one_token(tokenizer):
    for each in tokenizer:
        for word in (*CLASSES, *COLORS, *RARE):
            assert len(each(word, add_special_tokens=False).input_ids) == 1, word
        ids = [each(word, add_special_tokens=False).input_ids[0] for word in RARE]
        assert len(set(ids)) == 4 and each.eos_token_id == len(each) - 1


def test_every_word_of_the_prompts_occurs_in_captions(said, catalog):
    def words(text):
        return set(re.findall(r"[a-z]+", text.lower()))

    known = set().union(*(words(text) for _, text in said))
    for prompt in (*catalog.prompts, *catalog.validation, *catalog.pairs):
        assert words(re.sub(r"\{.?\}", "", prompt.template)) <= known, prompt
    for text in catalog.templates:
        assert words(text.replace("{}", "")) <= known, text


def test_reserved_words_are_rare(said):
    share = np.mean([bool(set(RARE) & set(text.split())) for _, text in said])
    assert 0.003 < share < 0.009


def test_captions_vary_and_say_attributes_sometimes(said):
    texts = [text for _, text in said]
    assert len(set(texts)) > 0.6 * len(texts)
    coloured = np.mean([bool(set(COLORS) & set(re.findall("[a-z]+", text))) for text in texts])
    assert 0.2 < coloured < 0.8
    places = [text.split().index(p.one.cls) for p, text in said if p.one.cls in text.split()]
    assert len(set(places)) > 8  # the thing stands at many positions


def test_a_caption_without_the_object_word_has_none():
    rng = stream("test", "dropped")
    for _ in range(200):
        picture = draw_random(rng)
        if picture.other is None:
            assert picture.one.cls not in caption(picture, rng, drop=1.0).split()


def bare(text):
    """Without what `read` leaves to show.py: attributes of the thing."""
    colours, marks = "|".join(COLORS), "|".join(language.MARK)
    text = re.sub(rf" with ({colours}) ({'|'.join(language.MARK.values())})\b", "", text)
    adjective = rf"\b({colours}|{marks}|{'|'.join(RARE)}) "
    return re.sub(rf"{adjective}(?=(({colours}|{marks}|{'|'.join(RARE)}) )*({'|'.join(CLASSES)})\b)", "", text)


def test_a_caption_read_back_is_the_picture(said):
    right = {name: [] for name in ("one", "other", "scene", "wear", "do", "state", "material", "style", "relation")}
    for picture, text in said[:2400:2]:
        again = read(bare(text))
        for name, hits in right.items():
            want, got = getattr(picture, name), getattr(again, name)
            if name in ("one", "other"):
                want, got = want and want.cls, got and got.cls
            if name == "scene" and not any(phrase in text for phrase in language.PLACE[picture.scene]):
                continue  # not named: any plain one may be drawn
            hits.append(want == got)
    assert all(np.mean(hits) > 0.98 for hits in right.values()), {k: np.mean(v) for k, v in right.items()}
    assert len(right["scene"]) > 700


# ---- the shipped concepts


@pytest.fixture(scope="module")
def shipped():
    from benchmarks.miniature.shipped import ELEVEN, TUNING

    return {**dict.fromkeys(ELEVEN, "miniature"), **dict.fromkeys(TUNING, "tuning")}


def test_shipped_concepts_are_what_is_drawn(shipped):
    from PIL import Image

    from benchmarks.miniature.shipped import ELEVEN, TUNING, photographs

    found = {kind: {c.name: c for c in load_catalog(kind).concepts} for kind in ("miniature", "tuning")}
    assert set(found["miniature"]) == set(ELEVEN) and set(found["tuning"]) == set(TUNING)
    for name, kind in shipped.items():
        concept, (images, masks) = found[kind][name], photographs(name)
        assert concept.super_category == (ELEVEN | TUNING)[name][0] and 4 <= len(images) <= 8
        assert len(concept.images) == len(images) and len(concept.masks) == len(masks)
        for paths, arrays in ((concept.images, images), (concept.masks, masks)):
            for path, array in zip(paths, arrays):
                assert np.array_equal(np.asarray(Image.open(path)), array), path


def test_shipped_instances_are_none_of_training(shipped):
    """Their seeds are of another name than the pool's; the nearest training instance is not them either."""
    from benchmarks.miniature.shipped import instance_of, nearest

    for name in shipped:
        one = instance_of(name)
        assert one != make_instance(one.cls, ("pool", (POOL - 1)))
        distance, typical = nearest(name)
        assert distance > 0.25 * typical and distance > 0.6, (name, distance, typical)
