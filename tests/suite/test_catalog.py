"""Prompts and concepts: the numbers of the protocol, the folder format, selection, and the check
that CI runs.
"""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image

from benchmarks import cli
from benchmarks.paths import data_dir
from benchmarks.suite import catalog_problems
from benchmarks.suite.catalog import (
    Prompt,
    fill,
    leave_out,
    load_catalog,
    read_pairs,
    read_prompts,
    read_templates,
)
from benchmarks.suite.clip_tokens import clip_tokenizer
from benchmarks.suite.concept_folder import read_concept, write_concept
from perfusion_core.errors import UserError

# every single-concept prompt that the paper quotes (Fig. 1, 2, 4, 8, 11, Appendix H), in words that
# must all occur
QUOTED = [
    "broken",
    "acting in a play wearing a costume",
    "reading a book",
    "wearing a sombrero",
    "made out of pure gold",
    "made out of yarn",
    "made out of glass",
    "oil painting ghibli inspired",
    "dressed as a samurai",
    "dressed as a superhero",
    "dressed as a wizard",
    "dressed in a blue suit is cooking a gourmet meal",
    "playing with a ball in the water",
    "in outer space",
]
SUPER = {
    "cat_toy": "toy",
    "sculpture": "sculpture",
    "cat": "cat",
    "chair": "chair",
    "pot": "pot",
    "dog": "dog",
    "teddy": "teddy",
    "tortoise": "tortoise",
    "puppy": "puppy",
    "sunglasses": "sunglasses",
    "teapot": "teapot",
}


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFBENCH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def pictures(n=3, size=16):
    return [np.full((size, size + i, 3), 40 * i, np.uint8) for i in range(n)]


def make(folder, **changes):
    about = {
        "super_category": "teapot",
        "group": "container",
        "source": "made by a test",
        "licence": "CC0",
        "images": pictures(),
    }
    return write_concept(folder, **(about | changes))


# ---- the prompts ----


def test_split_of_the_protocol():
    split = Counter((prompt.kind, prompt.group) for prompt in load_catalog("photos").prompts)
    assert split == {("shape", "all"): 19, ("deform", "animated"): 30, ("deform", "container"): 16,
                     ("deform", "furniture"): 11, ("deform", "wearable"): 10}  # fmt: skip


def test_numbers_that_the_paper_gives():
    """86 unique prompts, 43 a concept on average, 2,104 = 8 x 263 rating trials; 3,776 images at
    one point.
    """
    catalog = load_catalog("photos")
    assert len({prompt.template for prompt in catalog.prompts}) == 86
    each = [catalog.prompts_for(concept) for concept in catalog.concepts]
    assert round(sum(map(len, each)) / len(each)) == 43
    deform = sum(prompt.kind == "deform" for prompts in each for prompt in prompts)
    assert 8 * deform == 2104
    assert 8 * sum(map(len, each)) == 3776


@pytest.mark.parametrize("words", QUOTED)
def test_quoted_prompts_are_there(words):
    assert any(words in prompt.template for prompt in load_catalog("photos").prompts)


def test_ids_are_unique_and_short():
    catalog = load_catalog("photos")
    ids = [item.id for item in (*catalog.prompts, *catalog.validation)] + [
        pair.id for pair in catalog.pairs
    ]
    assert len(ids) == len(set(ids)) == 86 + 8 + 10
    assert all(id.isalnum() and id.islower() for id in ids)


def test_ids_stay():
    """Ids are in run folders, seeds and other people's tables: a text may not move to another
    id.
    """
    texts = {prompt.id: prompt.template for prompt in load_catalog("photos").prompts}
    assert texts["s01"] == "A {} on the beach" and texts["s19"] == "A {} under a rainbow"
    assert (
        texts["a01"] == "A {} is reading a book" and texts["a30"] == "A {} rowing a boat on a lake"
    )
    assert texts["c01"] == "A broken {}" and texts["f11"] == "A {} covered with a red blanket"
    assert texts["w10"] == "A pencil drawing of {}"


def test_shape_preserving_prompts_change_the_scene_only():
    """The object is named with no adjective, no material, no style and no activity: `A {}` and then
    a place.
    """
    places = ("on ", "in ", "under ", "by ", "next to ")
    for prompt in load_catalog("photos").select_prompts("shape"):
        head, tail = prompt.template.split("{}")
        assert head == "A " and tail.strip().startswith(places), prompt
        assert not set(tail.split()) & {
            "wearing",
            "dressed",
            "made",
            "painting",
            "style",
            "holding",
            "playing",
        }, prompt


def test_validation_and_training_texts():
    catalog = load_catalog("photos")
    assert len(catalog.validation) == 8 and len(catalog.templates) == 9
    assert not {p.template for p in catalog.validation} & {p.template for p in catalog.prompts}
    assert (
        "a good photo of the {}" in catalog.templates
        and "A {} shown in a photo" in catalog.templates
    )


@pytest.mark.parametrize(
    "template, bare",
    [
        ("A {} on the beach", "A on the beach"),
        ("A broken {}", "A broken"),
        ("A {} is dressed like a wizard", "A is dressed like a wizard"),
        ("{} in a pool.", "in a pool."),
        ("A photo of {}.", "A photo of."),
        ("In the snow, a {}, alone", "In the snow, a, alone"),
    ],
)
def test_text_without_the_concept(template, bare):
    assert leave_out(template) == bare


def test_every_prompt_says_something_without_its_concept():
    for prompt in load_catalog("photos").prompts:
        assert catalog_problems.content_words(prompt.template), prompt


def test_scored_text_follows_the_protocol():
    catalog = load_catalog("photos")
    concept, prompt = catalog.concepts[0], catalog.prompts[0]
    assert catalog.scored_text(prompt, concept) == "A on the beach"
    kept = replace(catalog, protocol=replace(catalog.protocol, class_word="kept"))
    assert (
        kept.scored_text(prompt, concept)
        == fill(prompt.template, concept.super_category)
        == "A cat on the beach"
    )
    teddy, teapot = (
        next(c for c in catalog.concepts if c.name == name) for name in ("teddy", "teapot")
    )
    assert (
        catalog.scored_text(catalog.pairs[0], teddy, teapot)
        == "A teddy is sailing inside a teapot in a lake"
    )


def test_pairs_find_their_slots():
    catalog = load_catalog("photos")
    found = {concept.name: concept for concept in catalog.concepts}
    ids = [pair.id for pair in catalog.pairs_for(found["teddy"], found["teapot"])]
    assert ids == ["m01", "m02", "m03", "m04", "m06", "m09", "m10"]
    assert "m08" in [pair.id for pair in catalog.pairs_for(found["pot"], found["chair"])]
    assert "m01" not in [pair.id for pair in catalog.pairs_for(found["teapot"], found["teddy"])]


@pytest.mark.parametrize(
    "text, words",
    [
        ("id,kind,template\n", "first line must be"),
        (
            "id,kind,group,template\nx1,shape,all,A {} here\nx1,shape,all,A {} there\n",
            ":3: id 'x1' is used twice",
        ),
        ("id,kind,group,template\nx1,shap,all,A {} here\n", "did you mean 'shape'"),
        ("id,kind,group,template\nx1,deform,animate,A {} here\n", "did you mean 'animated'"),
        ("id,kind,group,template\nx1,shape,all,A cat here\n", "needs {} exactly once"),
        ("id,kind,group,template\nx1,shape,all,A {} and a {}\n", "needs {} exactly once"),
        ("id,kind,group,template\nx1,shape,all,A {cat} here\n", "needs {} exactly once"),
        ("id,kind,group,template\nx1,shape,all,A {} here } now\n", "needs {} exactly once"),
        ("id,kind,group,template\nx1,shape,all\n", "4 filled cells"),
        ("id,kind,group,template\nx1,shape,all,A {} here, there\n", "4 filled cells"),
        (
            "id;kind;group;template\nx1;shape;all;A {} here\n",
            "with commas; it is 'id;kind;group;template'",
        ),
        (
            "id,kind,group,template\nx1,shape,all,A {} here\nX1 ,shape,all,A {} there\n",
            ":3: id 'X1' is used twice",
        ),
        (
            "id,kind,group,template\n../../x1,shape,all,A {} here\n",
            ":2: id '../../x1' is not allowed",
        ),
        ('id,kind,group,template\n"x1,x2",shape,all,A {} here\n', ":2: id 'x1,x2' is not allowed"),
        ("id,kind,group,template\nshape,shape,all,A {} here\n", "id 'shape' is not allowed"),
        ("id,kind,group,template\n,,,\n", "has no row"),
        (
            'id,kind,group,template\nx1,shape,all,"A {} here' + 200_000 * "!" + "\n",
            "quotation mark left open",
        ),
    ],
)
def test_prompts_edited_by_hand(text, words, tmp_path):
    (tmp_path / "prompts.csv").write_text(text)
    with pytest.raises(UserError) as error:
        read_prompts(tmp_path / "prompts.csv")
    assert words in str(error.value) and "prompts.csv" in str(error.value)


def test_prompts_from_a_spreadsheet(tmp_path):
    """A byte-order mark, Windows line ends and quotes are how spreadsheets save CSV."""
    (tmp_path / "prompts.csv").write_bytes(
        '\ufeffid,kind,group,template\r\nx1,shape,all,"A {}, in the rain"\r\n'.encode()
    )
    assert read_prompts(tmp_path / "prompts.csv") == (
        Prompt("x1", "shape", "all", "A {}, in the rain"),
    )
    (tmp_path / "prompts.csv").write_text(
        'id, kind, group, template\n,,,\nx1, shape, all,"A {}\nin the rain"\n,,,\n'
    )
    assert read_prompts(tmp_path / "prompts.csv") == (
        Prompt("x1", "shape", "all", "A {} in the rain"),
    )
    (tmp_path / "prompts.csv").write_bytes(
        "id,kind,group,template\nx1,shape,all,Café {}".encode("latin-1")
    )
    with pytest.raises(UserError, match="not UTF-8"):
        read_prompts(tmp_path / "prompts.csv")


def test_pairs_and_templates_edited_by_hand(tmp_path):
    (tmp_path / "pairs.csv").write_text("id,slots,template\nm1,animated+cup,A {a} with a {b}\n")
    with pytest.raises(UserError, match="slots is 'animated"):
        read_pairs(tmp_path / "pairs.csv")
    (tmp_path / "pairs.csv").write_text("id,slots,template\nm1,any+any,A {a} with a {a}\n")
    with pytest.raises(UserError, match=r"needs \{a\} and \{b\}"):
        read_pairs(tmp_path / "pairs.csv")
    (tmp_path / "training.txt").write_text("a photo of {}\n\nno slot\n")
    with pytest.raises(UserError, match=":3:"):
        read_templates(tmp_path / "training.txt")


# ---- selection ----


def test_select_prompts():
    catalog = load_catalog("photos")
    assert len(catalog.select_prompts("all")) == 86
    assert [prompt.id for prompt in catalog.select_prompts("c02, s01,c02")] == ["s01", "c02"]
    assert len(catalog.select_prompts("shape,a01")) == 20
    with pytest.raises(UserError, match="did you mean 's19'"):
        catalog.select_prompts("s1,s9x")
    with pytest.raises(UserError, match="no prompt was named"):
        catalog.select_prompts(" , ")


def test_select_concepts(tmp_path, own_data):
    make(tmp_path / "shelf" / "kettle")
    make(own_data / "concepts" / "my_pot", super_category="pot")
    catalog = load_catalog(tmp_path / "shelf")
    assert [concept.name for concept in catalog.select_concepts("all")] == ["kettle"], (
        "yours come by name only"
    )
    assert [concept.name for concept in catalog.select_concepts("my_pot,kettle")] == [
        "my_pot",
        "kettle",
    ]
    assert catalog.select_concepts(f"{tmp_path / 'shelf' / 'kettle'}") == catalog.select_concepts(
        "kettle"
    )
    with pytest.raises(UserError, match=r"did you mean 'kettle'.*my_pot"):
        catalog.select_concepts("kettel")


def test_photographs_without_images_say_what_to_do():
    with pytest.raises(
        UserError, match=r"perfbench concepts fetch cat.*perfbench concepts adopt cat DIR"
    ):
        load_catalog("photos").select_concepts("cat")


def test_a_catalogue_of_ones_own_with_prompts(tmp_path):
    make(tmp_path / "mine" / "concepts" / "kettle")
    (tmp_path / "mine" / "prompts").mkdir()
    (tmp_path / "mine" / "prompts" / "prompts.csv").write_text(
        "id,kind,group,template\nk1,shape,all,A {} boiling\n"
    )
    catalog = load_catalog(tmp_path / "mine")
    assert [prompt.id for prompt in catalog.prompts] == ["k1"] and len(catalog.validation) == 8
    with pytest.raises(UserError, match="has no concept"):
        load_catalog(tmp_path / "mine" / "prompts")
    with pytest.raises(UserError, match="known catalogues: miniature"):
        load_catalog(tmp_path / "nowhere")


def test_prompts_of_ones_own_choose_no_training_step(tmp_path):
    make(tmp_path / "mine" / "concepts" / "kettle")
    (tmp_path / "mine" / "prompts").mkdir()
    own = [
        "k1,shape,all,A {} boiling",
        "k2,shape,all,a  {} in a Garden",
        "k3,deform,all,A {} on the road",
    ]
    (tmp_path / "mine" / "prompts" / "prompts.csv").write_text(
        "\n".join(["id,kind,group,template", *own])
    )
    catalog = load_catalog(tmp_path / "mine")
    assert [prompt.id for prompt in catalog.prompts] == ["k1", "k2", "k3"]
    assert [prompt.id for prompt in catalog.validation] == ["v2", "v3", "v4", "v6", "v7", "v8"]
    assert cli.run(["catalog", "check", "--suite", str(tmp_path / "mine")]) == 0


# ---- a concept folder ----


def test_write_and_read(tmp_path):
    masks = [np.zeros((16, 16 + i), np.uint8) for i in range(3)]
    written = make(tmp_path / "kettle", masks=masks, asymmetric=True)
    assert written == read_concept(tmp_path / "kettle")
    assert [path.name for path in written.images] == ["00.png", "01.png", "02.png"]
    assert [path.parent.name for path in written.masks] == ["masks"] * 3
    assert (np.asarray(Image.open(written.images[1])) == pictures()[1]).all()
    assert written.asymmetric and written.licence == "CC0" and len(written.digest) == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kettle"], (
        "nothing is left beside it"
    )


def test_texts_that_toml_must_quote(tmp_path):
    written = make(
        tmp_path / "kettle",
        licence='he said "mine\\"\n\ttwice\x7f',
        source="é 漢字 😀 # not a comment",
    )
    assert read_concept(tmp_path / "kettle") == written


def test_digest_is_of_what_training_sees(tmp_path):
    first = make(tmp_path / "a" / "kettle")
    assert (
        make(tmp_path / "b" / "other", group="animated", source="x", licence="y").digest
        == first.digest
    )
    changed = [
        {"images": pictures(2)},
        {"images": pictures()[::-1]},
        {"super_category": "pot"},
        {"asymmetric": True},
        {"masks": [np.zeros((16, 16 + i), np.uint8) for i in range(3)]},
    ]
    digests = {
        make(tmp_path / str(i) / "kettle", **change).digest for i, change in enumerate(changed)
    }
    assert len(digests | {first.digest}) == 1 + len(changed)


@pytest.mark.parametrize(
    "name", ["../out", "a/b", "My Teapot", "", ".", "..", "teapot,pot", "{x}", "чайник", "2cats"]
)
def test_names_that_are_refused(name, tmp_path):
    """Through the command that takes a name from the user; nothing appears anywhere."""
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(UserError) as error:
        cli.run(
            ["concepts", "add", str(tmp_path), "--super-category", "pot", "--name", name or " "]
        )
    assert "\n" not in str(error.value) and "cannot be named" in str(error.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.png"]


@pytest.mark.parametrize(
    "spoil, words",
    [
        (
            lambda folder: (folder / "images" / "00.png").unlink(),
            "00.png is recorded in concept.toml but not there",
        ),
        (
            lambda folder: Image.new("RGB", (5, 5)).save(folder / "images" / "new.png"),
            "new.png is not recorded",
        ),
        (
            lambda folder: Image.new("RGB", (5, 5)).save(folder / "images" / "01.png"),
            "01.png is not the file",
        ),
        (lambda folder: (folder / "concept.toml").unlink(), "there is no"),
        (lambda folder: (folder / "concept.toml").write_text("name = teapot"), "not valid TOML"),
        (
            lambda folder: edit(folder, 'group = "container"', 'group = "containers"'),
            "did you mean 'container'",
        ),
        (lambda folder: edit(folder, "licence", "license"), "did you mean 'licence'"),
        (lambda folder: edit(folder, 'licence = "CC0"', 'licence = ""'), "licence"),
        (
            lambda folder: edit(folder, "asymmetric = false", 'asymmetric = "no"'),
            "allowed are true and false",
        ),
        (lambda folder: edit(folder, 'name = "kettle"', 'name = "cattle"'), "make them equal"),
        (
            lambda folder: edit(folder, "[images]", 'images = ["00.png"]\n[masks]'),
            "[images] needs a line",
        ),
        (lambda folder: edit(folder, '.png" = "', '.png" = 1 #'), "[images] needs a line"),
        (
            lambda folder: edit(folder, 'super_category = "', 'super_category = "a {} '),
            "is not a word",
        ),
        (
            lambda folder: (
                folder.joinpath("masks").mkdir()
                or Image.new("L", (5, 5)).save(folder / "masks" / "00.png")
            ),
            "every image needs a mask",
        ),
    ],
)
def test_spoiled_folders(spoil, words, tmp_path):
    make(tmp_path / "kettle")
    spoil(tmp_path / "kettle")
    with pytest.raises(UserError) as error:
        read_concept(tmp_path / "kettle")
    assert (
        words in str(error.value) and "kettle" in str(error.value) and "\n" not in str(error.value)
    )


def edit(folder, old, new):
    path = folder / "concept.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def test_written_by_hand(tmp_path):
    """Four lines and some images, no sha256: what a person writes."""
    folder = tmp_path / "kettle"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(folder / "images" / "front view.png")
    (folder / "images" / "notes.txt").write_text("not an image")
    (folder / "concept.toml").write_text(
        'name = "kettle"\nsuper_category = "teapot"\ngroup = "container"\nsource = '
        '"mine"\nlicence = "mine"\n'
    )
    assert [path.name for path in read_concept(folder).images] == ["front view.png"]


def test_interrupted_writing_leaves_nothing(tmp_path):
    class Stop(Exception):
        pass

    class Picture(Image.Image):
        def save(self, *args, **kwargs):
            raise Stop

    with pytest.raises(Stop):
        make(tmp_path / "kettle", images=[pictures()[0], Picture()])
    assert list(tmp_path.iterdir()) == []
    make(tmp_path / "kettle")
    (tmp_path / "kettle").rename(tmp_path / ".kettle-x1")  # what a kill in the last moment leaves
    with pytest.raises(UserError, match="has no concept"):
        load_catalog(tmp_path)


# ---- the two catalogues ----


def test_the_eleven_photographs():
    catalog = load_catalog("photos")
    assert {concept.name: concept.super_category for concept in catalog.concepts} == SUPER
    groups = Counter(concept.group for concept in catalog.concepts)
    assert groups == {"animated": 7, "container": 2, "furniture": 1, "wearable": 1}
    assert all(concept.source and concept.licence for concept in catalog.concepts)
    assert not list((data_dir("concepts") / "photos").rglob("*.jpg")), "they are not ours to ship"


def test_super_categories_are_one_clip_token():
    tokenizer = catalog_problems.open_tokenizer(None)
    theirs = SimpleTokenizer()
    texts = [fill(prompt.template, "teapot") for prompt in load_catalog("miniature").prompts]
    odd = [
        "It's 3D, isn't it? \u2014 caf\u00e9",
        "two  spaces",
        "\u6771\u4eac \U0001f389!!",
        "foo_bar-baz",
    ]
    for text in [*texts, *SUPER.values(), *odd]:
        assert clip_tokenizer().encode(text).ids == theirs.encode(text), text
    assert {word: tokenizer.count(word) for word in SUPER.values()} == dict.fromkeys(
        SUPER.values(), 1
    )
    assert tokenizer.count("figurine of a borzoi") > 1


def test_what_is_shipped_is_sound(capsys):
    """`perfbench catalog check`, as CI runs it; the drawn eleven have 4 to 8 images, each with its
    mask.
    """
    assert cli.run(["catalog", "check"]) == 0, capsys.readouterr().out
    drawn = load_catalog("miniature").select_concepts("all")
    assert {concept.name: concept.super_category for concept in drawn} == SUPER
    assert all(4 <= len(concept.images) == len(concept.masks) <= 8 for concept in drawn)
    tuning = load_catalog("tuning").select_concepts("all")
    assert len(tuning) == 3 and not {c.name for c in tuning} & set(SUPER)
    assert not {c.digest for c in tuning} & {c.digest for c in drawn}


# ---- the check ----


def test_check_is_silent_on_what_is_right(tmp_path):
    make(tmp_path / "shelf" / "kettle")
    catalog = load_catalog(tmp_path / "shelf")
    assert catalog_problems.problems(catalog, catalog_problems.open_tokenizer(None)) == []


def spoilt(catalog, what):
    """The catalogue with one thing wrong."""
    prompts, concept = catalog.prompts, catalog.concepts[0]
    return {
        "id": lambda: replace(
            catalog, prompts=(*prompts, replace(prompts[1], id=prompts[0].id, template="A {} up"))
        ),
        "twice": lambda: replace(catalog, prompts=(*prompts, replace(prompts[0], id="x1"))),
        "validation": lambda: replace(
            catalog, validation=(Prompt("v9", "shape", "all", prompts[0].template),)
        ),
        "empty": lambda: replace(
            catalog, prompts=(*prompts, Prompt("x1", "shape", "all", "A photo of a {}"))
        ),
        "names": lambda: replace(catalog, concepts=(concept, concept)),
        "licence": lambda: replace(catalog, concepts=(replace(concept, licence=""),)),
        "no prompt": lambda: replace(
            catalog, prompts=prompts[-1:], concepts=(replace(concept, group="other"),)
        ),
        "image": lambda: replace(catalog, concepts=(replace(concept, images=(Path(__file__),)),)),
        "tokens": lambda: replace(
            catalog, concepts=(replace(concept, super_category="samovarish"),)
        ),
        "long": lambda: replace(
            catalog, prompts=(*prompts, Prompt("x1", "shape", "all", "A {} " + "really " * 80))
        ),
    }[what]()


@pytest.mark.parametrize(
    "what, words",
    [
        ("id", "id 's01' is used 2 times"),
        ("twice", "stands 2 times"),
        ("validation", "keep them disjoint"),
        ("empty", "says nothing"),
        ("names", "two concepts are called 'kettle'"),
        ("licence", "has no source or no licence"),
        ("no prompt", "has no prompt"),
        ("image", "test_catalog.py is not an image"),
        ("tokens", "choose a word that it knows whole"),
        ("long", "x1 is 82 tokens"),
    ],
)
def test_check_finds(what, words, tmp_path):
    make(tmp_path / "shelf" / "kettle")
    catalog = load_catalog(tmp_path / "shelf")
    found = catalog_problems.problems(spoilt(catalog, what), catalog_problems.open_tokenizer(None))
    assert any(words in problem for problem in found), found
    assert len(found) == 1, found


def test_check_of_mask_sizes_and_counts(tmp_path):
    make(tmp_path / "shelf" / "kettle", masks=[np.zeros((20, 20), np.uint8)] * 3)
    catalog = load_catalog(tmp_path / "shelf")
    assert sum("mask" in problem for problem in catalog_problems.problems(catalog)) == 3
    fewer = replace(catalog, prompts=catalog.prompts[1:], validation=catalog.validation[1:])
    said = " ".join(catalog_problems.shipped_problems(fewer))
    assert (
        "the prompts split as" in said and "7 validation prompts" in said and "1 concepts" in said
    )
    assert (
        "group 'wearable' has prompts but no concept" in said
        and "'kettle' is not as in the photographs" in said
    )


def test_check_with_the_tokenizer_of_a_backbone(tiny_pipe_dir, tmp_path, capsys):
    """The tiny tokenizer of the tests knows `teapot` whole and `walrus` by letters, and reads 32
    tokens.
    """
    for name, word in (("kettle", "teapot"), ("tusk", "walrus")):
        make(tmp_path / "shelf" / name, super_category=word)
    tokenizer = catalog_problems.open_tokenizer(str(tiny_pipe_dir))
    assert (tokenizer.count("teapot"), tokenizer.count("walrus"), tokenizer.room) == (1, 6, 30)
    status = cli.run(
        ["catalog", "check", "--suite", str(tmp_path / "shelf"), "--backbone", str(tiny_pipe_dir)]
    )
    out = capsys.readouterr().out
    assert (
        status == 1
        and "super-category 'walrus' of 'tusk' is 6 tokens" in out
        and "'teapot'" not in out
    )
    with pytest.raises(UserError, match="no tokenizer that can be read"):
        catalog_problems.open_tokenizer(str(tmp_path))


# ---- the lists ----


def listed(capsys, *words):
    assert cli.run(["ls", *words]) == 0
    return capsys.readouterr().out


def test_ls_prompts(capsys):
    assert len(json.loads(listed(capsys, "prompts", "--json"))) == 86
    cat = json.loads(listed(capsys, "prompts", "--concept", "cat", "--json"))
    assert Counter(row["group"] for row in cat) == {"all": 19, "animated": 30}
    assert cat[0] == {"id": "s01", "kind": "shape", "group": "all", "template": "A {} on the beach"}
    text = listed(capsys, "prompts", "--concept", "chair").splitlines()
    assert len(text) == 1 + 19 + 11 and text[1].split("  ")[-1].strip() == "A {} on the beach"


def test_ls_concepts_and_suites(capsys, own_data):
    make(own_data / "concepts" / "my_pot", super_category="pot")
    rows = {
        row["name"]: row
        for row in json.loads(listed(capsys, "concepts", "--suite", "photos", "--json"))
    }
    assert len(rows) == 12 and rows["my_pot"]["images"] == 3 and rows["teapot"]["images"] == 0
    assert rows["teapot"]["prompts"] == 35 and rows["sunglasses"]["prompts"] == 29
    suites = {row["suite"]: row for row in json.loads(listed(capsys, "suites", "--json"))}
    assert suites["miniature"]["images"] == 8 and suites["dreambench:DIR"]["class_word"] == "kept"


@pytest.mark.parametrize(
    "words, says",
    [
        (["ls", "prompt"], "did you mean 'prompts'"),
        (["ls", "prompts", "--concept", "catt"], "did you mean 'cat'"),
        (["ls", "concepts", "--concept", "cat"], "goes with"),
        (["ls", "concepts", "--suite", "dreambnch:x"], "did you mean 'dreambench'"),
        (["concepts", "fetch", "teapott"], "did you mean 'teapot'"),
        (["concepts", "adopt", "teapott", "x"], "did you mean 'teapot'"),
        (["concepts", "add", "nowhere", "--super-category", "pot"], "is not a folder"),
    ],
)
def test_mistakes_are_one_sentence(words, says):
    with pytest.raises(UserError) as error:
        cli.run(words)
    assert says in str(error.value) and "\n" not in str(error.value)
