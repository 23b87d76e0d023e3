"""Scores against plain loops over the models' own features; scorers that must not be mixed up;
progress.
"""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from run_kit import make_scorer, reference, shared

from benchmarks.planning import backbones
from benchmarks.planning.config import resolve
from benchmarks.planning.units import Fit
from benchmarks.running import progress
from benchmarks.running.tasks import Job
from benchmarks.running.worker_scores import WorkerScores
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.lookup import find_scorer
from benchmarks.scoring.scorers import open_scorer
from benchmarks.scoring.similarity import ceiling, image_similarity, read_images, score_cell
from benchmarks.store.reading import read_rows
from benchmarks.store.run_folder import Store
from benchmarks.suite.catalog import Prompt
from perfusion_core.backbone import Backbone
from perfusion_core.errors import UserError
from perfusion_core.sampling import sample


def test_similarities_are_means_over_pairs():
    rng = np.random.default_rng(0)

    def unit(n):
        x = rng.normal(size=(n, 5))
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    generated, concept = unit(4), unit(3)
    expected = [np.mean([g @ c for c in concept]) for g in generated]
    np.testing.assert_allclose(image_similarity(generated, concept), expected)
    others = [np.mean([concept[i] @ concept[j] for j in range(3) if j != i]) for i in range(3)]
    np.testing.assert_allclose(ceiling(concept), others)
    assert ceiling(np.concatenate([concept[:1]] * 2)) == pytest.approx([1, 1]), (
        "two copies are each other's equal"
    )
    assert np.isnan(ceiling(concept[:1])).all(), "a lone image has no other to be compared with"


def by_hand(folder):
    """open_clip without our code: what makes a unit vector of a picture, and what makes one of a
    text.
    """
    model, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval().requires_grad_(False)

    def unit(features):
        return (features[0].double() / features[0].double().norm()).numpy()

    return (
        lambda picture: unit(model.encode_image(prepare(picture.convert("RGB"))[None])),
        lambda words: unit(model.encode_text(tokenize([words]))),
    )


def test_rows_are_what_open_clip_says():
    """The published rows, from the PNGs, with open_clip called by hand."""
    run = reference()
    image_of, text_of = by_hand(shared() / "tiny" / "scorer")

    rows = read_rows(run)
    texts = {"s01": "A on the beach", "a01": "A is reading a book"}
    one = rows[(rows["method"] == "perfusion") & (rows["concept"] == "cat")]
    real = [image_of(Image.open(path)) for path in sorted((run / "concepts" / "cat").glob("*.png"))]
    assert len(one) == 4 and len(real) == 3
    for row in one.itertuples():
        folder = run / "images" / row.method / row.point / "cat" / row.prompt_id
        image, text = (
            image_of(Image.open(folder / f"{row.index}.png")),
            text_of(texts[row.prompt_id]),
        )
        assert row.text_sim_raw == pytest.approx(float(image @ text), abs=2e-6)
        if row.kind == "shape":
            assert row.image_sim == pytest.approx(
                float(np.mean([image @ other for other in real])), abs=2e-6
            )
    cat = rows[(rows["method"] == "real") & (rows["concept"] == "cat")].sort_values("index")
    assert cat["image_sim"].tolist()[0] == pytest.approx(
        float((real[0] @ real[1] + real[0] @ real[2]) / 2), abs=2e-6
    )


def test_training_steps_are_picked_by_the_second_scorer_relative_to_the_plain_word(tmp_path):
    """Against a loop: the harmonic mean of image similarity and of text similarity, in which
    `super` is 1.
    """
    tiny = shared() / "tiny"
    # named otherwise than its class
    shutil.copytree(shared() / "concepts/cat/images", tmp_path / "concepts/tom")
    config = resolve(
        preset="micro", flags={"backbone": str(tiny), "device": "cpu", "dtype": "float32"}
    )
    ends = ["in a garden", "on a stage", "next to a lamp"]
    prompts = tuple(Prompt(f"v{n}", "shape", "all", f"A {{}} {end}") for n, end in enumerate(ends))
    marks = WorkerScores(
        Job(config, backbones.find_models(config), frozenset(), prompts, False), Store(tmp_path)
    )
    backbone = Backbone.open(tiny, device="cpu", dtype="float32")
    fit = Fit("perfusion", "tom", "cat", {}, None, True, (), 0, "key")
    validate = marks.validation(fit, backbone)
    assert validate.templates == ("A {} in a garden", "A {} on a stage", "A {} next to a lamp")
    assert len(set(validate.seeds)) == 3 and (
        validate.every,
        validate.steps,
        validate.guidance,
    ) == (5, 5, 6.0)

    image_of, text_of = by_hand(tiny / "scorer2")  # scorer/ is the reported one
    real = [image_of(Image.open(path)) for path in (tmp_path / "concepts/tom").glob("*.png")]
    plain = sample(
        backbone, [f"A cat {end}" for end in ends], validate.seeds, steps=5, guidance=6.0
    )
    darker = np.array([1, 2, 4]).reshape(3, 1, 1, 1)
    drawn = (np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3)) // darker).astype(np.uint8)
    image = text = floor = 0.0
    for n, end in enumerate(ends):
        bare, one, other = (
            text_of(f"A {end}"),
            image_of(Image.fromarray(drawn[n])),
            image_of(Image.fromarray(plain[n])),
        )
        text += one @ bare
        floor += other @ bare
        image += sum(one @ mine for mine in real)
    image, text = image / (3 * 3), text / floor
    # so of these random weights; the harmonic mean is of positive numbers
    assert min(image, text, floor) > 0.1
    assert validate.score(drawn) == pytest.approx(2 * image * text / (image + text), abs=1e-5)
    # trained on one image: judged by it alone
    few = marks.validation(replace(fit, config={"images": 1}), backbone)
    first = image_of(Image.open(tmp_path / "concepts/tom" / "00.png"))
    alone = np.mean([image_of(Image.fromarray(picture)) @ first for picture in drawn])
    assert (
        few.score(drawn)
        == pytest.approx(2 * alone * text / (alone + text), abs=1e-5)
        != validate.score(drawn)
    )
    # no backbone: `super` is drawn once
    again = marks.validation(replace(fit, method="cd", key="other"), None)
    assert again.seeds == validate.seeds and again.score(drawn) == validate.score(drawn)


CELL = CellRow("m", "default", "cat", "animated", "s01", "shape", 2, "k", "", "A {cat}", "A", "cat")


def test_a_cell_with_lost_images_is_not_scored():
    scorer = open_scorer(find_scorer("auto", "tiny", shared() / "tiny"), "cpu")
    cell = replace(CELL, seeds=(1, 2))
    with pytest.raises(UserError, match="1 images are there, 2 are planned"):
        score_cell(scorer, cell, [Image.new("RGB", (16, 16))], [], False)


def test_scorers_are_named_by_their_bytes(tmp_path):
    one, same, other = (find_scorer(str(make_scorer(tmp_path / name / "clip", seed)), "x", tmp_path)
                        for name, seed in (("a", 1), ("b", 1), ("c", 2)))  # fmt: skip
    assert one.name == same.name != other.name and one.name.startswith("clip-")
    about = json.loads((tmp_path / "b/clip/open_clip_config.json").read_text())
    about["preprocess_cfg"]["mean"] = [0.4, 0.4, 0.4]
    (tmp_path / "b/clip/open_clip_config.json").write_text(json.dumps(about))
    assert find_scorer(str(tmp_path / "b/clip"), "x", tmp_path).name != one.name, (
        "preprocessing is part of the name"
    )


def test_scorers_that_do_not_exist_or_do_not_fit(tmp_path):
    with pytest.raises(UserError, match="unknown scorer 'clp'"):
        find_scorer("clp", "x", tmp_path)
    with pytest.raises(UserError, match=r"there is no open_clip_config\.json"):
        find_scorer(str(tmp_path), "x", tmp_path)
    with pytest.raises(UserError, match="use clip:ViT-B-32-quickgelu:openai"):
        find_scorer("clip:ViT-B-32:openai", "x", tmp_path)
    with pytest.raises(UserError, match="open_clip has no ViT-B-33"):
        find_scorer("clip:ViT-B-33:openai", "x", tmp_path)


def test_dino_sees_pictures_only(tmp_path):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    folder = tmp_path / "vit"
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=16,
        patch_size=8,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    scorer = open_scorer(find_scorer(f"dino:{folder}", "x", tmp_path), "cpu")
    pictures = read_images(reference() / "concepts" / "cat")
    features = scorer.images(pictures)
    assert features.shape == (3, 16) and np.linalg.norm(features, axis=1) == pytest.approx(
        [1, 1, 1]
    )
    rows = score_cell(scorer, replace(CELL, seeds=(1, 2, 3)), pictures, [features], False)
    assert all(row["text_sim_raw"] == "" and row["image_sim"] for row in rows)


def test_tuning_and_reporting_never_share_a_scorer():
    config = resolve(
        preset="micro",
        flags={"backbone": str(shared() / "tiny"), "device": "cpu", "dtype": "float32"},
    )
    found = backbones.find_models(config)
    assert found.selector.weights != found.scorers[0].weights
    with pytest.raises(UserError, match="so it must not pick training steps too"):
        backbones.find_models(
            resolve(
                preset="micro",
                flags={
                    **config.__dict__,
                    "preset": None,
                    "points": None,
                    "fit": None,
                    "scorers": str(shared() / "tiny" / "scorer2"),
                },
            )
        )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_a_log_gets_few_lines(monkeypatch):
    screen, log = Terminal(), io.StringIO()
    for stream in (screen, log):
        shown = progress.Progress(100, stream)
        for number in range(50):
            shown.current(f"perfusion/default/cat/s{number:02d}")
            shown.add(1)
        shown.close()
    assert (
        "50 of 100" in screen.getvalue()
        and "image" in screen.getvalue()
        and "perfusion/default/cat/s" in screen.getvalue()
    )
    assert log.getvalue() == "", "nothing within half a minute"
    shown = progress.Progress(100, log)
    shown.add(10)
    later = shown.started + 40
    monkeypatch.setattr(progress.time, "monotonic", lambda: later)
    shown.add(30)
    shown.add(1)
    assert log.getvalue() == "perfbench: 40 of 100 images; \n"
    assert [progress.duration(s) for s in (3.21, 250, 7500)] == ["3.2 s", "4 min 10 s", "2 h 5 min"]
