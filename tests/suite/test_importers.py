"""Other people's suites, in layouts made here as they are published; DreamBench on its real files,
too.
"""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import cli
from benchmarks.suite import catalog_problems
from benchmarks.suite.catalog import PERFUSION
from benchmarks.suite.concept_folder import read_concept
from benchmarks.suite.importers import PROTOCOLS, SUITES, open_suite
from perfusion_core.errors import UserError

REAL = Path(
    os.environ.get(
        "PERFBENCH_DREAMBENCH", Path(__file__).parents[3] / "shared" / "data" / "dreambench"
    )
)
real = pytest.mark.skipif(
    not (REAL / "dataset" / "prompts_and_classes.txt").is_file(),
    reason="DreamBench's files are not here: set PERFBENCH_DREAMBENCH to a clone of "
    "github.com/google/dreambooth",
)


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFBENCH_DATA", str(tmp_path / "user"))
    return tmp_path / "user"


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    """`datasets` keeps its tables beside the test's files, not in the home folder."""
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def picture(path, shade=100, size=(24, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 80, 40)).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# ---- DreamBench ----

DREAMBENCH = """Classes

subject_name,class
backpack,backpack
bear_plushie,stuffed animal
cat2,cat

Prompts

Object Prompts

prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
'a {0} {1} on top of a mirror'.format(unique_token, class_token),
'a red {0} {1}'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
'a {0} {1} wearing a red hat'.format(unique_token, class_token),
'a red {0} {1}'.format(unique_token, class_token)
]
"""


@pytest.mark.parametrize("where", ["", "dataset"])
def test_dreambench(where, tmp_path):
    """The clone, or its `dataset` folder."""
    write(tmp_path / "dataset" / "prompts_and_classes.txt", DREAMBENCH)
    for name in ("cat2/01.jpg", "cat2/00.jpg", "bear_plushie/00.jpg", "not_listed/00.jpg"):
        picture(tmp_path / "dataset" / name)
    suite = open_suite(f"dreambench:{tmp_path / where}")
    assert [(c.name, c.super_category, c.group, len(c.images)) for c in suite.concepts] == [
        ("bear_plushie", "stuffed animal", "object", 1), ("cat2", "cat", "live", 2)]  # fmt: skip
    assert [path.name for path in suite.concepts[1].images] == ["00.jpg", "01.jpg"]
    bear, cat = suite.concepts
    assert [p.template for p in suite.prompts_for(bear)] == [
        "a {} in the jungle",
        "a {} on top of a mirror",
        "a red {}",
    ]
    assert [p.template for p in suite.prompts_for(cat)] == [
        "a {} in the jungle",
        "a red {}",
        "a {} wearing a red hat",
    ]
    assert suite.scored_text(suite.prompts[0], bear) == "a stuffed animal in the jungle"
    assert suite.notes == ("2 of 3 subjects are here",)


@real
def test_dreambench_as_published():
    """Six subjects of thirty: 25 prompts each, 4 images a prompt, the class word kept, every prompt
    counts.
    """
    suite = open_suite(f"dreambench:{REAL}")
    assert {
        c.name: (c.super_category, len(c.images), len(suite.prompts_for(c))) for c in suite.concepts
    } == {
        "cat": ("cat", 5, 25),
        "dog": ("dog", 5, 25),
        "dog6": ("dog", 5, 25),
        "duck_toy": ("toy", 4, 25),
        "pink_sunglasses": ("glasses", 6, 25),
        "teapot": ("teapot", 5, 25),
    }
    assert Counter(p.group for p in suite.prompts) == {"all": 15, "object": 10, "live": 10}
    assert {p.kind for p in suite.prompts} == {"shape"}
    assert suite.protocol == PROTOCOLS["dreambench"] and suite.protocol.images_per_prompt == 4
    assert suite.notes == ("6 of 30 subjects are here",)
    assert catalog_problems.problems(suite, catalog_problems.open_tokenizer(None)) == []
    assert catalog_problems.notes(suite) == ["6 of 30 subjects are here"]


@real
def test_dreambench_subjects_as_concepts_of_ours(capsys, own_data):
    assert cli.run(["concepts", "import", f"dreambench:{REAL}"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 6 and "6 of 30" in err
    teapot = read_concept(own_data / "concepts" / "dreambench_teapot")
    assert teapot.group == "container" and teapot.super_category == "teapot"
    assert teapot.images[0].read_bytes() == (REAL / "dataset" / "teapot" / "00.jpg").read_bytes()
    assert cli.run(["concepts", "import", f"dreambench:{REAL}"]) == 1, "they exist already"


@real
def test_dreambench_through_plan(tmp_path_factory, capsys):
    """6 subjects x 25 prompts x 4 images a method, and a fit a subject, on a tiny backbone with its
    own scorers.
    """
    from run_kit import make_backbone

    tiny = make_backbone(tmp_path_factory.mktemp("backbone") / "tiny")
    capsys.readouterr()
    words = ["--suite", f"dreambench:{REAL}", "--backbone", str(tiny), "--methods", "perfusion"]
    assert cli.run(["plan", *words, "--out", str(tiny.parent / "run"), "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    floor = next(row for row in out["methods"] if row["method"] == "super")
    assert (floor["cells"], floor["images"]) == (6 * 25, 6 * 25 * 4)
    assert out["total"]["fits"] == 6 and out["total"]["images"] == 4 * out["total"]["cells"]


# ---- CustomConcept101 ----


def entry(name, word, prompts, slot="<new1>"):
    return {
        "instance_prompt": f"photo of a {slot} {word}",
        "class_prompt": word,
        "instance_data_dir": f"./benchmark_dataset/{name}",
        "class_data_dir": f"./regularization/{name}",
        "prompt_filename": f"prompts/{prompts}.txt",
    }


def custom101(folder):
    named = [
        ("pet_cat1", "cat", "cat"),
        ("pet_cat6", "cat", "cat"),
        ("furniture_chair1", "chair", "chair"),
    ]
    rows = [entry(*each) for each in (*named, ("plushie_tortoise", "tortoise plushie", "plushie"))]
    pair = [entry("pet_cat1", "cat", "cat"), entry("furniture_chair1", "chair", "chair", "<new2>"),
            {"prompt_filename_compose": "prompts/pet_furniture.txt"}]  # fmt: skip
    write(folder / "dataset.json", json.dumps(rows))
    write(folder / "dataset_multiconcept.json", json.dumps([pair]))
    write(folder / "prompts" / "cat.txt", "Photo of a {}.\n{} swimming in a pool.\n\na sad {}.")
    write(folder / "prompts" / "plushie.txt", "{} on a shelf.\n")
    write(folder / "prompts" / "chair.txt", "{} near a pool.\n")
    write(
        folder / "prompts" / "pet_furniture.txt",
        "photo of the {0} and {1}. \nA {0} sleeping on a purple {1}.",
    )
    for name in ("pet_cat1", "pet_cat6", "furniture_chair1"):
        picture(folder / "benchmark_dataset" / name / "0.jpeg", len(name))


def test_customconcept101(tmp_path):
    custom101(tmp_path)
    suite = open_suite(f"customconcept101:{tmp_path}")
    assert [(c.name, c.super_category, c.group) for c in suite.concepts] == [
        ("furniture_chair1", "chair", "chair"),
        ("pet_cat1", "cat", "cat"),
        ("pet_cat6", "cat", "cat"),
    ]
    chair, cat, _ = suite.concepts
    assert [(p.id, p.template) for p in suite.prompts_for(cat)] == [
        ("cat-01", "Photo of a {}."),
        ("cat-02", "{} swimming in a pool."),
        ("cat-03", "a sad {}."),
    ]
    assert suite.scored_text(suite.prompts_for(cat)[0], cat) == "Photo of a cat."
    assert [pair.template for pair in suite.pairs_for(cat, chair)] == [
        "photo of the {a} and {b}.", "A {a} sleeping on a purple {b}."]  # fmt: skip
    assert suite.scored_text(suite.pairs[1], cat, chair) == "A cat sleeping on a purple chair."
    assert not suite.pairs_for(suite.concepts[2], chair), (
        "the file pairs one cat with the chair, not the other"
    )
    assert suite.notes == ("3 of 4 concepts are here",) and suite.protocol.images_per_prompt == 50
    assert catalog_problems.problems(suite) == []


def test_customconcept101_with_another_json(tmp_path):
    for text, words in (
        ("{", "not valid JSON"),
        ('[{"name": "cat"}]', "not in CustomConcept101's layout"),
        ("[]", "no"),
    ):
        write(tmp_path / "dataset.json", text)
        with pytest.raises(UserError, match=words):
            open_suite(f"customconcept101:{tmp_path}")


# ---- Custom Diffusion's own prompts ----


def test_customdiffusion(tmp_path):
    """Words after <new1> tell the class; data/ has it with underscores; files of two classes name
    them plainly.
    """
    write(
        tmp_path / "prompts" / "cat.txt",
        "Photo of <new1> cat\n<new1> cat wearing sunglasses\na sad <new1> cat\n",
    )
    write(
        tmp_path / "prompts" / "wooden.txt",
        "Photo of <new1> wooden pot \n<new1> wooden pot  in times square\n",
    )
    write(tmp_path / "prompts" / "dog.txt", "<new1> dog swimming in a pool\na <new1> dog\n")
    write(
        tmp_path / "prompts" / "wooden_pot_cat.txt",
        "cat sitting in a wooden pot\nthe catalogue of a wooden pot\n",
    )
    picture(tmp_path / "data" / "cat" / "1.jpg")
    picture(tmp_path / "data" / "wooden_pot" / "1.jpg", 7)
    suite = open_suite(f"customdiffusion:{tmp_path}")
    assert [(c.name, c.super_category) for c in suite.concepts] == [
        ("cat", "cat"),
        ("wooden_pot", "wooden pot"),
    ]
    cat, pot = suite.concepts
    assert [p.template for p in suite.prompts_for(cat)] == [
        "Photo of {}",
        "{} wearing sunglasses",
        "a sad {}",
    ]
    assert [p.template for p in suite.prompts_for(pot)] == ["Photo of {}", "{} in times square"]
    assert [(pair.slots, pair.template) for pair in suite.pairs] == [
        (("wooden_pot", "cat"), "{b} sitting in a {a}")
    ]
    assert suite.notes == ("1 two-concept prompts do not name both and are left out",)
    assert catalog_problems.problems(suite) == []


# ---- DreamBench++ ----


def test_dreambench_plus(tmp_path):
    write(
        tmp_path / "captions" / "animal" / "00.txt",
        "kitten\na kitten in a basket\nA Kitten, oil painting\nno subject\n",
    )
    write(tmp_path / "captions" / "object" / "03.txt", "red vase\na red vase on a table\n")
    write(tmp_path / "captions" / "object" / "04.txt", "boot\na boot\n")
    picture(tmp_path / "images" / "animal" / "00.jpg")
    picture(tmp_path / "images" / "object" / "03.jpg", 9)
    suite = open_suite(f"dreambench++:{tmp_path}")
    assert [(c.name, c.super_category, len(c.images)) for c in suite.concepts] == [
        ("animal_00_kitten", "kitten", 1), ("object_03_red_vase", "red vase", 1)]  # fmt: skip
    kitten, vase = suite.concepts
    assert [p.template for p in suite.prompts_for(kitten)] == [
        "a {} in a basket",
        "A {}, oil painting",
    ]
    assert suite.scored_text(suite.prompts_for(vase)[0], vase) == "a red vase on a table"
    assert suite.notes == (
        "2 of 3 subjects are here",
        "1 captions do not name their subject and are left out",
    )
    assert catalog_problems.problems(suite) == []


# ---- a plain folder ----


def test_folder_of_one_concept(tmp_path):
    folder = tmp_path / "my_teapot2"
    picture(folder / "one.png")
    write(folder / "prompts.txt", "a {} on the moon\n{} in a garden\nA {} in a garden\n")
    suite = open_suite(f"folder:{folder}")
    assert [(c.name, c.super_category, c.group) for c in suite.concepts] == [
        ("my_teapot2", "teapot", "container")
    ]
    assert [p.id for p in suite.prompts_for(suite.concepts[0])] == ["p01", "p02", "p03"]
    assert suite.scored_text(suite.prompts[0], suite.concepts[0]) == "a on the moon"
    assert suite.protocol.name == "own" != PERFUSION.name
    assert len(suite.validation) == 7, (
        "v1 is one of the prompts here, so it may not choose training steps"
    )
    assert suite.notes == ("super-categories: my_teapot2 is a teapot",)


def test_folder_of_folders_and_its_mistakes(tmp_path):
    picture(tmp_path / "Dog 1" / "a.jpg")
    picture(tmp_path / "red-boat" / "a.jpg", 3)
    with pytest.raises(UserError, match=r"there is no .*prompts\.txt"):
        open_suite(f"folder:{tmp_path}")
    write(tmp_path / "prompts.txt", "a {} on the moon\n")
    suite = open_suite(f"folder:{tmp_path}")
    assert [(c.name, c.super_category, c.group) for c in suite.concepts] == [
        ("dog_1", "dog", "animated"), ("red_boat", "boat", "other")]  # fmt: skip
    write(tmp_path / "prompts.txt", "a cat on the moon\n")
    with pytest.raises(UserError, match=r"prompts\.txt: prompt p01"):
        open_suite(f"folder:{tmp_path}")
    picture(tmp_path / "dog-1" / "a.jpg")
    write(tmp_path / "prompts.txt", "a {} on the moon\n")
    with pytest.raises(UserError, match="two concepts that are called 'dog_1'"):
        open_suite(f"folder:{tmp_path}")


def test_a_folder_holds_pictures_out(tmp_path):
    picture(tmp_path / "dog" / "a.jpg")
    picture(tmp_path / "dog" / "heldout" / "b.jpg", 3)
    write(tmp_path / "prompts.txt", "a {} on the moon\n")
    (dog,) = open_suite(f"folder:{tmp_path}").concepts
    assert [path.name for path in dog.images] == ["a.jpg"]
    assert [path.name for path in dog.heldout] == ["b.jpg"]
    picture(tmp_path / "dog" / "heldout" / "c.jpg")
    with pytest.raises(UserError, match=r"c\.jpg is also among the images that are trained"):
        open_suite(f"folder:{tmp_path}")


# ---- `datasets` ----


def test_a_second_split_is_held_out(tmp_path, no_cache):
    picture(tmp_path / "set" / "train" / "dog" / "1.jpg")
    picture(tmp_path / "set" / "train" / "cat" / "1.jpg", 50)
    for number in (1, 2):
        picture(tmp_path / "set" / "test" / "dog" / f"{number}.jpg", 9 * number)
    write(tmp_path / "set" / "prompts.txt", "a {} on the moon\n")
    found = {c.name: c for c in open_suite(f"datasets:{tmp_path / 'set'}").concepts}
    assert {name: (len(c.images), len(c.heldout)) for name, c in found.items()} == {
        "dog": (1, 2),
        "cat": (1, 0),
    }
    assert all("test" in path.parts for path in found["dog"].heldout)


def test_image_folder_with_labels(tmp_path, no_cache):
    for name in ("my_teapot/1.jpg", "my_teapot/2.jpg", "dog/1.jpg"):
        picture(tmp_path / "set" / name, len(name) * 9)
    write(tmp_path / "set" / "prompts.txt", "a {} on the moon\n")
    suite = open_suite(f"datasets:{tmp_path / 'set'}")
    assert {c.name: (c.super_category, len(c.images)) for c in suite.concepts} == {
        "my_teapot": ("teapot", 2), "dog": ("dog", 1)}  # fmt: skip
    assert all(
        path.is_relative_to(tmp_path / "set") for c in suite.concepts for path in c.images
    ), "read in place"
    assert [p.template for p in suite.prompts] == [
        "a {} on the moon"
    ] and suite.protocol.name == "own"


def test_image_folder_with_metadata(tmp_path, no_cache):
    picture(tmp_path / "set" / "train" / "1.jpg")
    picture(tmp_path / "set" / "train" / "2.jpg", 9)
    rows = [{"file_name": f"{i}.jpg", "concept": "Rex", "super_category": "dog"} for i in (1, 2)]
    write(tmp_path / "set" / "train" / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    suite = open_suite(f"datasets:{tmp_path / 'set'}")
    assert [(c.name, c.super_category, c.group, len(c.images)) for c in suite.concepts] == [
        ("rex", "dog", "animated", 2)
    ]
    assert len(suite.prompts) == 86 and len(suite.prompts_for(suite.concepts[0])) == 49


def test_a_table_with_images_inside(tmp_path, own_data, no_cache):
    """A hub data set is parquet files with the images' bytes in them; here such a file lies in a
    folder.
    """
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageColumn

    sources = []
    for i in range(3):
        picture(tmp_path / f"{i}.jpg", i * 30)
        sources.append({"path": None, "bytes": (tmp_path / f"{i}.jpg").read_bytes()})
    table = {"image": sources, "concept": ["cat", "cat", "boat"]}
    features = Features({"image": ImageColumn(decode=False), "concept": Value("string")})
    made = Dataset.from_dict(table, features=features).cast_column("image", ImageColumn())
    (tmp_path / "set").mkdir()
    made.to_parquet(tmp_path / "set" / "train-00000-of-00001.parquet")
    first = open_suite(f"datasets:{tmp_path / 'set'}")
    assert {c.name: len(c.images) for c in first.concepts} == {"cat": 2, "boat": 1}
    images = [path for c in first.concepts for path in c.images]
    assert [path.read_bytes() for path in images] == [source["bytes"] for source in sources], (
        "as they are"
    )
    assert all(path.is_relative_to(own_data) for path in images)
    assert open_suite(f"datasets:{tmp_path / 'set'}").digests == first.digests


def test_a_data_set_without_images(tmp_path, no_cache):
    write(tmp_path / "set" / "train.csv", "text\nhello\n")
    with pytest.raises(UserError, match=r"has no image column \(it has text\)"):
        open_suite(f"datasets:{tmp_path / 'set'}")


# ---- the one function ----


def test_protocols_differ():
    """Numbers of two suites can be told apart by the protocol's name alone, and none claims to be
    the paper's.
    """
    assert SUITES.keys() == PROTOCOLS.keys()
    assert PERFUSION.name not in {protocol.name for protocol in PROTOCOLS.values()}
    assert (PERFUSION.images_per_prompt, PERFUSION.class_word, PERFUSION.image_prompts) == (
        8,
        "left out",
        "shape",
    )
    assert (PERFUSION.steps, PERFUSION.guidance, PERFUSION.normalised) == (50, 6.0, True)


@pytest.mark.parametrize(
    "spec, words",
    [
        ("dreambnch:x", "did you mean 'dreambench'"),
        ("dreambench:", "write dreambench:DIR"),
        ("dreambench:/no/such/folder", "is not a folder"),
        ("minature", "did you mean 'miniature'"),
        ("folder:EMPTY", "has no images in the layout of folder"),
        ("customconcept101:EMPTY", r"there is no .*dataset\.json"),
        ("dreambench:EMPTY", r"there is no .*prompts_and_classes\.txt"),
        ("dreambench++:EMPTY", "has no images in the layout"),
        ("customdiffusion:EMPTY", "has no images in the layout"),
    ],
)
def test_mistakes(spec, words, tmp_path):
    (tmp_path / "EMPTY").mkdir()
    write(tmp_path / "EMPTY" / "prompts.txt", "a {} here\n")
    with pytest.raises(UserError, match=words) as error:
        open_suite(spec.replace("EMPTY", str(tmp_path / "EMPTY")))
    assert "\n" not in str(error.value)


def test_hub_id_that_cannot_be_had(monkeypatch, no_cache):
    """With the hub switched off, as on a machine without a network."""
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="neither a folder of images nor a hub data set"):
        open_suite("datasets:someone/no_such_set")
