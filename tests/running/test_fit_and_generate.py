"""fit, generate, covariance and masks through the command, on the tiny backbone."""

import json

import numpy as np
import pytest
import torch
from conftest import make_concept
from PIL import Image
from run_kit import make_backbone, make_concepts
from safetensors import safe_open

from benchmarks.cli import run
from benchmarks.planning import backbones
from perfusion_core.errors import UserError


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kit")
    make_backbone(folder / "tiny")
    make_concepts(folder / "concepts")
    return folder


def flags(kit):
    return ["--backbone", str(kit / "tiny"), "--device", "cpu", "--dtype", "float32"]


@pytest.fixture(scope="module")
def cat(kit):
    out = kit / "made" / "cat.safetensors"
    few = ["--steps", "4", "--set", "batch=4"]
    assert (
        run(
            [
                "fit",
                "perfusion",
                "--concept",
                str(kit / "concepts" / "cat"),
                "--out",
                str(out),
                *few,
                *flags(kit),
            ]
        )
        == 0
    )
    return out


def test_fit_writes_one_small_file_and_its_log(cat):
    with safe_open(cat, "pt") as file:
        assert file.metadata()["super_category"] == "cat"
    about = json.loads(cat.with_suffix(".json").read_text())
    assert len(about["losses"]) == 4 and about["validation"][0][0] == 4
    assert sorted(path.name for path in cat.parent.iterdir()) == ["cat.json", "cat.safetensors"]


def test_generate(cat, kit, tmp_path, capsys):
    words = [
        "generate",
        "A {kitty} on the beach",
        "--concept",
        f"kitty={cat}",
        "-n",
        "2",
        "--steps",
        "3",
        "--seed",
        "7",
    ]
    assert run([*words, "--out", str(tmp_path / "a"), *flags(kit)]) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "a" / "7.png"),
        str(tmp_path / "a" / "8.png"),
    ]
    assert run([*words, "--bias", "kitty=0.3", "--out", str(tmp_path / "b"), *flags(kit)]) == 0
    assert (
        run(
            [
                "generate",
                "A cat on the beach",
                "-n",
                "1",
                "--steps",
                "3",
                "--seed",
                "7",
                "--out",
                str(tmp_path / "c"),
                *flags(kit),
            ]
        )
        == 0
    )
    drawn = [Image.open(tmp_path / name / "7.png") for name in "abc"]
    assert drawn[0].text == {"prompt": "A {kitty} on the beach", "seed": "7"}
    pixels = [np.asarray(picture) for picture in drawn]
    assert pixels[0].shape == (16, 16, 3)
    assert not np.array_equal(pixels[0], pixels[1]) and not np.array_equal(pixels[0], pixels[2])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["A {dog}", "--concept", "cat=nowhere.safetensors"], "add --concept dog=FILE"),
        (
            ["A {cat}", "--concept", "cat=nowhere.safetensors"],
            "no concept file nowhere.safetensors",
        ),
        (["A {cat}", "--concept", "cat"], "is not NAME=FILE"),
        (["A {cat}", "--concept", "cat=a", "--concept", "cat=b"], "names 'cat' twice"),
        (["A cat", "--bias", "high"], "neither a number"),
        (["A cat", "--lock", "globl"], "did you mean 'global'"),
    ],
)
def test_generate_refusals(kit, tmp_path, words, says):
    with pytest.raises(UserError, match=says):
        run(["generate", *words, "--out", str(tmp_path), *flags(kit)])


def test_fit_refusals(kit, tmp_path):
    concept = ["--concept", str(kit / "concepts" / "cat")]
    with pytest.raises(
        UserError, match="unknown option of perfusion 'lr_embeding'; did you mean 'lr_embedding'"
    ):
        run(
            [
                "fit",
                "perfusion",
                *concept,
                "--out",
                str(tmp_path / "a.safetensors"),
                "--set",
                "lr_embeding=1.0",
                *flags(kit),
            ]
        )
    with pytest.raises(UserError, match="leaves a folder"):
        run(["fit", "ti", *concept, "--out", str(tmp_path / "a.safetensors"), *flags(kit)])
    with pytest.raises(UserError, match="is there already"):
        run(["fit", "perfusion", *concept, "--out", str(tmp_path), *flags(kit)])
    with pytest.raises(UserError, match=r"write --out .*a\.safetensors"):
        run(["fit", "perfusion", *concept, "--out", str(tmp_path / "a.txt"), *flags(kit)])


def test_a_fit_tells_where_its_rates_are_a_guess(kit, tmp_path):
    """As runs do in run.json: not of a rate that was set."""
    few = ["--concept", str(kit / "concepts" / "cat"), "--steps", "1", "--set", "batch=1"]
    for name, sets in (("guess", []), ("set", ["--set", "lr=0.01"])):
        out = tmp_path / name
        assert run(["fit", "dora", *few, *sets, "--out", str(out), *flags(kit)]) == 0
        assert json.loads((out / "fit.json").read_text()).get("untuned", False) == (not sets)


def test_fit_opens_only_the_scorer_that_picks_its_step(kit, tmp_path, monkeypatch):
    """A download less; and with --set select_scorer=FOLDER it needs no network at all."""
    from shutil import copytree, rmtree

    copy = copytree(kit / "tiny", tmp_path / "copy")
    selector = copytree(copy / "scorer2", tmp_path / "selector")
    opened = []
    real = backbones.find_scorer
    monkeypatch.setattr(
        backbones,
        "find_scorer",
        lambda given, *rest, **how: opened.append(given) or real(given, *rest, **how),
    )
    rmtree(copy / "scorer2")
    few = [
        "--steps",
        "1",
        "--set",
        "batch=2",
        "--set",
        f"select_scorer={selector}",
        "--device",
        "cpu",
    ]
    words = [
        "fit",
        "perfusion",
        "--concept",
        str(kit / "concepts" / "cat"),
        "--backbone",
        str(copy),
        *few,
    ]
    assert run([*words, "--out", str(tmp_path / "cat.safetensors")]) == 0
    assert opened == [str(selector)]


def test_covariance(kit, tmp_path, capsys):
    from shutil import copytree

    from perfusion_core.covariance import read_covariance

    copy = copytree(kit / "tiny", tmp_path / "copy")
    (copy / "covariance.safetensors").unlink()
    fit = [
        "fit",
        "perfusion",
        "--concept",
        str(kit / "concepts" / "cat"),
        "--out",
        str(tmp_path / "cat.safetensors"),
    ]
    with pytest.raises(UserError, match="perfbench covariance"):
        run([*fit, "--backbone", str(copy), "--device", "cpu"])
    with pytest.raises(UserError, match="the miniature has its C"):
        run(["covariance", "--backbone", "miniature", "--captions", "captions.txt"])
    captions = tmp_path / "captions.txt"
    captions.write_text(
        "\n".join(
            f"a {a} photo of the {b}"
            for a in ("red", "blue", "gold")
            for b in ("cat", "dog", "lake", "road")
        )
    )
    words = [
        "covariance",
        "--backbone",
        str(copy),
        "--captions",
        str(captions),
        "--limit",
        "11",
        "--device",
        "cpu",
    ]
    assert run(words) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(copy / "covariance.safetensors")
    found = read_covariance(copy / "covariance.safetensors")
    assert (found.captions, found.source) == (11, "captions.txt")
    assert run([*words, "--column", "text"]) == 0
    assert read_covariance(copy / "covariance.safetensors").source == "captions.txt, column text"


def test_masks(kit, tmp_path, monkeypatch):
    from benchmarks.suite.catalog import load_catalog
    from benchmarks.suite.concept_folder import write_concept
    from perfusion_core import masks

    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)) for _ in range(2)
    ]
    write_concept(
        tmp_path / "mug",
        super_category="pot",
        group="container",
        source="me",
        licence="mine",
        images=pictures,
    )
    soft = [
        np.linspace(0, 1, 16 * 20, dtype=np.float32).reshape(16, 20),
        np.full((16, 20), 0.5, np.float32),
    ]
    asked = []
    # the model itself: test_core_masks.py
    monkeypatch.setattr(masks, "open_clipseg", lambda *a: (None, None))
    monkeypatch.setattr(
        masks, "soft_masks", lambda m, p, images, word: (asked.append((len(images), word)), soft)[1]
    )
    assert run(["masks", "mug", "--suite", str(tmp_path), "--device", "cpu"]) == 0
    concept = load_catalog(tmp_path).concept("mug")  # verified against what concept.toml records
    assert asked == [(2, "pot")]
    assert len(concept.masks) == 2
    np.testing.assert_allclose(
        np.asarray(Image.open(concept.masks[0])) / 255, soft[0], atol=0.5 / 255
    )
    with pytest.raises(UserError, match="has masks already"):
        run(["masks", "mug", "--suite", str(tmp_path), "--device", "cpu"])


def test_float16_storage_changes_no_score_by_more_than_a_thousandth(kit, tmp_path):
    """By a random scorer of the real kind; the miniature's own is asked in
    test_core_miniature.py.
    """
    from benchmarks.scoring.lookup import find_scorer
    from benchmarks.scoring.scorers import open_scorer
    from benchmarks.scoring.similarity import image_similarity
    from perfusion_core.backbone import Backbone
    from perfusion_core.editing import load_concepts
    from perfusion_core.sampling import sample

    backbone = Backbone.open(kit / "tiny", device="cpu", dtype="float32")
    concept = make_concept(backbone, "kitty", "cat", seed=4)
    scorer = open_scorer(find_scorer("auto", "tiny", kit / "tiny"), "cpu")
    real = scorer.images(
        [Image.open(path) for path in sorted((kit / "concepts/cat/images").iterdir())]
    )
    scores = []
    for dtype in (torch.float32, torch.float16):
        concept.save(tmp_path / "kitty.safetensors", dtype)
        with load_concepts(
            backbone.pipe, {"kitty": tmp_path / "kitty.safetensors"}, c_inv=backbone.c_inv
        ):
            pictures = sample(backbone, "A {kitty} on the beach", range(4), steps=8)
        features = scorer.images([Image.fromarray(picture) for picture in pictures])
        scores.append(
            (
                image_similarity(features, real).mean(),
                (features @ scorer.text("A on the beach")).mean(),
            )
        )
    assert np.abs(np.subtract(*scores)).max() < 1e-3
