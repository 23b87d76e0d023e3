"""The miniature's words: every prompt is read and drawn, captions say what is there, tokens
suffice.
"""

import re

import numpy as np
import pytest

from benchmarks.miniature.world import language
from benchmarks.miniature.world import picture as world
from benchmarks.miniature.world.canvas import COLORS
from benchmarks.miniature.world.instance import stream
from benchmarks.miniature.world.language import RARE, caption, read
from benchmarks.miniature.world.picture import CLASSES, draw_random, render
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
        pictures = [
            read(fill(prompt.template, concept.super_category), seed=0) for prompt in prompts
        ]
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
        drawn = [
            render(read(fill(p.template, concept.super_category), seed=1), "same layout")[0]
            for p in prompts
        ]
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
                text = pair.template.replace("{a}", a.super_category).replace(
                    "{b}", b.super_category
                )
                picture = read(text)
                assert {picture.one.cls, picture.other.cls} == {
                    a.super_category,
                    b.super_category,
                }, text
                if (drawn := drawn + 1) % 12 == 0:
                    assert render(picture, text)[0].std() > 8
    assert drawn > 300


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        (
            "A cat dressed in a blue suit is cooking a gourmet meal",
            {"wear": "suit", "do": "cook", "scene": "kitchen"},
        ),
        (
            "A dog is playing with a ball in the water",
            {"do": "beachball", "scene": "water", "other": None},
        ),
        (
            "A teddy is acting in a play wearing a costume",
            {"do": "act", "wear": "costume", "scene": "stage"},
        ),
        (
            "A puppy wearing a party hat next to a birthday cake",
            {"wear": "partyhat", "do": "cake", "other": None},
        ),
        ("A tortoise rowing a boat on a lake", {"do": "boat", "scene": "water"}),
        ("A teapot lying on its side and spilling water", {"state": "spilling"}),
        ("A golden chair", {"material": "gold", "state": None}),
        ("A ghibli inspired oil painting of a chair", {"style": "oil"}),
        ("A chair with feathered wings", {"state": "feathers", "wear": None}),
        ("A toy in front of the Eiffel tower", {"scene": "eiffel"}),
        ("A pot next to a ball", {"relation": "beside", "scene": None}),
        ("A dog is sailing inside a pot in a lake", {"relation": "inside", "scene": "water"}),
        (
            "A cat sitting by the fire with a teapot on a chilly night",
            {"relation": "beside", "scene": "campfire"},
        ),
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
    texts += [
        p.template.replace("{a}", "tortoise").replace("{b}", "sunglasses") for p in catalog.pairs
    ]
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
    return re.sub(
        rf"{adjective}(?=(({colours}|{marks}|{'|'.join(RARE)}) )*({'|'.join(CLASSES)})\b)", "", text
    )


def test_a_caption_read_back_is_the_picture(said):
    right = {
        name: []
        for name in (
            "one",
            "other",
            "scene",
            "wear",
            "do",
            "state",
            "material",
            "style",
            "relation",
        )
    }
    for picture, text in said[:2400:2]:
        again = read(bare(text))
        for name, hits in right.items():
            want, got = getattr(picture, name), getattr(again, name)
            if name in ("one", "other"):
                want, got = want and want.cls, got and got.cls
            if name == "scene" and not any(
                phrase in text for phrase in language.PLACE[picture.scene]
            ):
                continue  # not named: any plain one may be drawn
            hits.append(want == got)
    assert all(np.mean(hits) > 0.98 for hits in right.values()), {
        k: np.mean(v) for k, v in right.items()
    }
    assert len(right["scene"]) > 700
