"""Perfusion's pictures on a backbone of XL's kind, drawn otherwise: zeros that no concept edits,
pooled text of the concept's own, and both beside the run's own in its tables.
"""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from xl_kit import save_benched_xl, xl_words

from benchmarks.cli import run
from benchmarks.evidence.joint_trial import POOLED, ZEROS, drawn_otherwise, groups_of, main, opened
from perfusion_core import Concept, load_concepts, sampling
from perfusion_core.errors import UserError

POINT = "local-b0.60-t0.15"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trial")
    words = xl_words(folder, save_benched_xl(folder), "--methods", "perfusion", "--prompts", "2")
    assert run(["run", *words, "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_zeros_stay_zeros_and_pooled_text_is_the_concepts_own(done, monkeypatch):
    """The text side of each variant, against the pipeline's own, and what both leave alone."""
    [group] = groups_of(done)
    assert (group.concept, group.point, len(group.rows())) == ("cat", POINT, 2)
    backbone, how = opened(done)
    drawn, draw = [], sampling.draw
    monkeypatch.setattr(
        sampling, "draw", lambda backbone, pictures, **how: drawn.append(pictures) or pictures
    )
    assert [name for name, _ in drawn_otherwise(backbone, group, how)] == [ZEROS, POOLED]
    concepts = {"cat": Concept.load(group.fit / "concept.safetensors")}
    texts, seeds = list(group.prompts.values()), [seed for _, _, seed in group.rows()]
    with load_concepts(backbone.pipe, concepts, "local", 0.6, 0.15, c_inv=backbone.c_inv):
        usual = sampling.prepared(backbone, texts, seeds, how["guidance"])
    with load_concepts(backbone.pipe, concepts, pooled="concept", c_inv=backbone.c_inv):
        pooled = [backbone.pipe.encode_prompt(text, None, "cpu", 1, False)[2][0] for text in texts]
    zeros, own = drawn
    for one, other, theirs, vector in zip(zeros, own, usual, pooled, strict=True):
        assert not any(side.any() for pair in one.plain.sides for side in pair)
        assert all(v.any() for _, v in theirs.plain.sides), "a concept's V answers to zeros"
        assert same(one.text, theirs.text) and one.seed == other.seed == theirs.seed
        assert same(replace(other.text, pooled=theirs.text.pooled), theirs.text)
        assert torch.equal(other.text.pooled, vector) and not torch.equal(
            vector, theirs.text.pooled
        )
    for (prompt, index, _), picture in zip(group.rows(), draw(backbone, usual, **how)):
        there = done / "images" / "perfusion" / POINT / "cat" / prompt / f"{index}.png"
        assert np.array_equal(np.asarray(Image.open(there)), picture), "drawn as the run draws"


def same(one, other):
    sides = zip(one.sides, other.sides, strict=True)
    return torch.equal(one.pooled, other.pooled) and all(
        torch.equal(k, k2) and torch.equal(v, v2) for (k, v), (k2, v2) in sides
    )


def test_the_pictures_stand_beside_the_runs_own(done, tmp_path, capsys):
    main([str(done), str(tmp_path / "drawn"), "--workers", "1"])
    place = capsys.readouterr().out.strip()
    assert run(["import", place, "--out", str(done), "--device", "cpu"]) in (0, None)
    table = pd.read_csv(done / "table.csv").set_index("method")
    assert {ZEROS, POOLED, "perfusion"} <= set(table.index)
    assert (table.loc[[ZEROS, POOLED], "n_images"] == 2).all()


def test_what_cannot_be_drawn_is_told(done, tmp_path):
    with pytest.raises(UserError, match="no pictures of perfusion at global"):
        main([str(done), str(tmp_path), "--points", "global-b0.40-t0.15"])
    about = json.loads((done / "run.json").read_text())
    about["backbone"]["sha256"] = "0" * 16
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text(json.dumps(about))
    said = r"the backbone .* is another one now than other was made with"
    with pytest.raises(UserError, match=said):
        opened(tmp_path / "other")
