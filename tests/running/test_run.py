"""`perfbench run`: from a plan to a table; the same command mends any damage; runs grow, move, are
scored again.
"""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from run_kit import (
    arguments,
    content,
    copy_of_reference,
    files,
    make_concepts,
    make_scorer,
    reference,
    run_here,
    shared,
)

from benchmarks.cli import run
from benchmarks.disk import read_json
from benchmarks.running import beforehand
from benchmarks.store.reading import read_plan, read_rows, read_run
from benchmarks.suite.concept_folder import write_concept
from perfusion_core.errors import UserError

METHOD = '''
"""A method that trains nothing and does what its Config says."""

from contextlib import contextmanager
from dataclasses import dataclass

import torch

NAME, LABEL, VERSION = "odd", "Odd", 1
TRAINED, PRIOR = True, True


@dataclass(frozen=True)
class Config:
    steps: int = 3
    raises_for: str = ""
    most: int = 0  # images that fit into its memory


MINIATURE = Config()


def fit(backbone, subject, config, out, *, seed, prior=None, validate=None, keep=(), progress=None):
    if subject.name == config.raises_for:
        raise ValueError("no luck with " + subject.name)
    assert prior.shape == (4, 16, 16, 3)
    (out / "most.txt").write_text(str(config.most))
    for step in keep:
        (out / f"step-{step}").mkdir()
        (out / f"step-{step}" / "most.txt").write_text("0")
    return {"losses": [1.0], "steps": config.steps}


@contextmanager
def apply(backbone, fits, point):
    most = int((next(iter(fits.values())).folder / "most.txt").read_text())

    def memory(unet, arguments):
        if most and len(arguments[0]) > 2 * most:  # with guidance, two rows an image
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate a lot")

    hook = backbone.unet.register_forward_pre_hook(memory)
    try:
        yield lambda text: text.format(**{name: one.super_category for name, one in fits.items()})
    finally:
        hook.remove()
'''


@pytest.fixture
def odd(tmp_path):
    """Flags for a method file of the user's own."""
    (tmp_path / "odd.py").write_text(METHOD)
    return "--method-file", str(tmp_path / "odd.py"), "--methods", "odd"


def test_from_a_plan_to_a_table(capsys):
    out = reference()
    table = pd.read_csv(out / "table.csv")
    assert set(table["method"]) == {"perfusion", "super", "real"}
    assert (table["n_images"] == table["n_planned"]).all()
    floor = table[table["method"] == "super"].iloc[0]
    assert floor["kind"] == "floor" and floor["text_sim"] == 1.0
    plan = read_plan(out)
    assert len(plan) == 8 and plan["n"].sum() == 16
    rows = read_rows(out)
    generated = rows[rows["method"] != "real"]
    assert generated.groupby("key").size().eq(2).all() and set(generated["key"]) == set(plan["key"])
    assert generated.loc[generated["kind"] == "deform", "image_sim"].isna().all()
    assert generated.loc[generated["kind"] == "shape", "image_sim"].notna().all()
    ceiling = rows[rows["method"] == "real"]
    assert ceiling.groupby("concept").size().to_dict() == {"cat": 3, "teapot": 3}
    noise = generated.pivot_table(
        index=["concept", "prompt_id", "index"], columns="method", values="seed"
    )
    assert (noise["super"] == noise["perfusion"]).all(), (
        "super starts from the noise of the concept it stands for"
    )


def test_every_picture_says_what_it_is():
    for cell in reference().glob("images/*/*/*/*"):
        about = read_json(cell / "cell.json")
        for index, seed in enumerate(about["seeds"]):
            with Image.open(cell / f"{index}.png") as image:
                assert image.text == {
                    "prompt": about["template"],
                    "seed": str(seed),
                    "key": about["key"],
                }


def test_run_json_tells_everything_but_whose_machine_it_is():
    about = read_json(reference() / "run.json")
    assert about["schema"] == 2 and about["finished"] >= about["started"]
    assert about["units"] == {
        kind: {"planned": n, "done": n, "failed": 0}
        for kind, n in (("priors", 0), ("fits", 2), ("cells", 8))
    }
    assert {"torch", "diffusers", "transformers", "open_clip_torch", "python"} <= about[
        "libraries"
    ].keys()
    assert (
        about["digests"].keys() == {"prompts", "concepts", "masks", "texts", "plan"}
        and about["dtype"] == "float32"
    )
    assert (
        about["digests"]["concepts"].keys()
        == about["weights"]["perfusion"].keys()
        == {"cat", "teapot"}
    )
    assert about["super_categories"] == {"cat": "cat", "teapot": "teapot"}
    assert len(about["digests"]["prompts"]) == 3, "what was selected, not the whole catalogue"
    assert about["backbone"]["id"] == "tiny" and len(about["backbone"]["sha256"]) >= 16
    assert (
        len(about["scorers"][0]["weights"]) == 64
        and about["select_scorer"]["name"] != about["scorers"][0]["name"]
    )
    assert about["methods"]["perfusion"]["config"]["steps"] == 10
    assert (
        about["seconds"]["images"] > 0
        and about["seconds"]["fits"] > 0
        and about["seconds"]["scores"] > 0
    )
    import getpass
    import socket

    words = set(re.findall(r"[\w.-]+", json.dumps(about)))
    assert socket.gethostname() not in words
    assert str(Path.home()) + "/" not in json.dumps(about) or getpass.getuser() == "root"


def test_a_finished_run_does_nothing_again(tmp_path, capsys):
    out = copy_of_reference(tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert run_here(shared(), out) == 0
    captured = capsys.readouterr()
    assert "0 fits and 0 images to do" in captured.err and "nothing new" in captured.err
    assert "perfusion local-b0.60-t0.15" in captured.out and "real images (ceiling)" in captured.out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before
    assert content(out) == content(reference()) and files(out) == files(reference())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "a truncated image": lambda run: cut(next(run.glob("images/perfusion/*/cat/*/1.png"))),
    "a changed image": lambda run: flip(next(run.glob("images/super/*/teapot/*/0.png"))),
    "a lost image": lambda run: next(run.glob("images/super/*/cat/*/0.png")).unlink(),
    "a damaged manifest": lambda run: cut(next(run.glob("images/perfusion/*/teapot/*/cell.json"))),
    "a truncated fit": lambda run: cut(next(run.glob("fits/perfusion/cat-*/concept.safetensors"))),
    "a corrupted row": lambda run: flip(next(run.glob("rows/*/perfusion/*/cat.csv"))),
    "a truncated ceiling": lambda run: cut(next(run.glob("rows/*/real/*/cat.csv"))),
    "lost tables": lambda run: [
        (run / name).unlink() for name in ("samples.csv", "table.csv", "plan.csv", "metrics.csv")
    ],
    "a damaged run.json": lambda run: cut(run / "run.json"),
    "a damaged concept image": lambda run: flip(run / "concepts" / "cat" / "0.png"),
    "something half written": lambda run: (run / ".tmp" / "0123").mkdir(parents=True),
}


def test_the_same_command_mends_everything(tmp_path, capsys):
    """All kinds of damage at once: found by digest or by decoding, redone to the byte, and nothing
    else is redone.
    """
    out = copy_of_reference(tmp_path / "run")
    for damage in DAMAGE.values():
        damage(out)
    assert run_here(shared(), out) == 0
    assert "4 cells" in capsys.readouterr().err
    assert content(out) == content(reference()) and files(out) == files(reference())


def test_a_damaged_fit_is_made_again_where_cells_need_it(tmp_path, capsys):
    out = copy_of_reference(tmp_path / "run")
    cut(next(out.glob("fits/perfusion/cat-*/concept.safetensors")))
    shutil.rmtree(out / "images/perfusion/local-b0.60-t0.15/cat")
    shutil.rmtree(next(out.glob("rows/*/perfusion")))
    assert run_here(shared(), out) == 0
    assert "1 fit" in capsys.readouterr().err
    assert content(out) == content(reference())


def test_another_protocol_is_refused_and_the_difference_shown(tmp_path):
    out = copy_of_reference(tmp_path / "run")
    with pytest.raises(
        UserError,
        match=r"guidance: 6.0 -> 7.0; steps: 5 -> 6.*or another folder, such as --out "
        r"results/micro-tiny-",
    ):
        run_here(shared(), out, "--set", "steps=6", "--set", "guidance=7")
    assert content(out) == content(reference())


def test_a_compiled_run_has_a_folder_of_its_own(tmp_path):
    """Compiled pictures have other low bits: they are not put beside plain ones."""
    out = copy_of_reference(tmp_path / "run")
    with pytest.raises(UserError, match=r"another protocol \(compile: null -> true\).*--out "):
        run_here(shared(), out, "--set", "compile=true")
    assert content(out) == content(reference())


def test_a_lost_plan_is_written_again(tmp_path):
    """Alone, with run.json still there."""
    out = copy_of_reference(tmp_path / "run")
    for damage in (lambda path: path.unlink(), cut):
        damage(out / "plan.csv")
        assert run_here(shared(), out) == 0
        assert content(out) == content(reference())


def test_a_run_of_another_version_is_a_sentence(tmp_path):
    out = copy_of_reference(tmp_path / "run")
    about = read_json(out / "run.json") | {
        "schema": 1,
        "digests": {"prompts": "0", "concepts": "0", "plan": "0"},
    }
    (out / "run.json").write_text(json.dumps(about))
    with pytest.raises(
        UserError, match=r"another version of perfbench \(run.json of schema 1, .* --out .*run-2"
    ):
        run_here(shared(), out)


def test_concepts_and_prompts_that_changed_are_refused_and_new_ones_are_not(tmp_path):
    """One name, one thing: rows of the old pictures would stand beside rows of the new ones."""
    out, suite = copy_of_reference(tmp_path / "run"), tmp_path / "concepts"
    make_concepts(suite, ("cat", "teapot", "dog"))
    few = ("--suite", str(suite), "--methods", "super", "--concepts")
    assert run_here(shared(), out, *few, "dog", "--prompts", "s01") == 0
    digests = read_json(out / "run.json")["digests"]
    assert digests["concepts"].keys() == {"cat", "teapot", "dog"} and len(digests["prompts"]) == 3
    flip_pixels(suite / "cat")
    assert run_here(shared(), out, *few, "dog", "--prompts", "s02") == 0, (
        "cat is not in this command"
    )
    before = content(out)
    with pytest.raises(
        UserError, match=r"holds a run with other concepts or prompts \(concept cat: .* -> .*run-2"
    ):
        run_here(shared(), out, *few, "cat")
    assert content(out) == before
    with pytest.raises(UserError, match="two different concepts called cat"):
        run_here(shared(), out, *few, f"cat,{shared() / 'concepts' / 'cat'}")


def flip_pixels(concept: Path) -> None:
    """Other photographs under the same name."""
    pictures = [
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for path in concept.glob("images/*")
    ]
    masks = [Image.open(path).copy() for path in concept.glob("masks/*")]
    shutil.rmtree(concept)
    write_concept(
        concept,
        super_category="cat",
        group="animated",
        source="x",
        licence="CC0-1.0",
        images=pictures,
        masks=masks,
    )


def test_methods_concepts_prompts_and_points_extend_a_run(tmp_path, odd, capsys):
    out = tmp_path / "run"
    assert (
        run_here(shared(), out, "--methods", "super", "--concepts", "cat", "--prompts", "s01") == 0
    )
    assert len(read_plan(out)) == 1
    assert run_here(shared(), out) == 0
    assert run_here(shared(), out, *odd, "--concepts", "cat", "--prompts", "s01") == 0
    plan = read_plan(out)
    assert set(plan["method"]) == {"super", "perfusion", "odd"} and len(plan) == 9
    assert "9" not in re.findall(r"(\d+) cells", capsys.readouterr().err)
    grown, whole = content(out), content(reference())
    shared_files = [name for name in whole if name.startswith(("images/", "rows/", "fits/"))]
    assert all(grown[name] == whole[name] for name in shared_files)
    assert len(read_json(out / "run.json")["commands"]) == 3
    assert (out / "priors").is_dir() and len(list((out / "priors").iterdir())) == 1


def test_a_method_that_raises_is_recorded_and_the_others_finish(tmp_path, odd, capsys):
    out = tmp_path / "run"
    assert run_here(shared(), out, *odd, "--set", "fit.odd.raises_for=cat") == 1
    captured = capsys.readouterr()
    assert (
        "1 failed" in captured.err and "fit odd/cat: ValueError: no luck with cat" in captured.err
    )
    assert "2 cells were left out" in captured.err and captured.out == ""
    record = read_json(next((out / "failed").iterdir()))
    assert (
        record["name"] == "fit odd/cat"
        and 'raise ValueError("no luck with " + subject.name)' in record["traceback"]
    )
    about = read_json(out / "run.json")
    assert (
        about["units"]["fits"] == {"planned": 2, "done": 1, "failed": 1}
        and about["finished"] is None
    )
    assert about["units"]["cells"] == {"planned": 8, "done": 6, "failed": 2}
    assert run_here(shared(), out, *odd, "--set", "fit.odd.raises_for=cat", "--allow-missing") == 1
    assert re.search(r"odd.*4/8", capsys.readouterr().out)


def test_a_failure_that_went_away_is_forgotten(tmp_path, odd):
    out, flag = tmp_path / "run", tmp_path / "flag"
    file = tmp_path / "odd.py"
    broken = f'if __import__("os").path.exists({str(flag)!r}) and subject.name == "cat":'
    file.write_text(METHOD.replace("if subject.name == config.raises_for:", broken))
    flag.touch()
    assert run_here(shared(), out, *odd) == 1
    flag.unlink()
    assert run_here(shared(), out, *odd) == 0
    assert not list((out / "failed").iterdir()) and read_json(out / "run.json")["failures"] == []


def test_a_failure_of_a_method_that_was_changed_is_forgotten(tmp_path, odd):
    """An author mends the file: other fits with other keys, and the old traceback says nothing any
    more.
    """
    out, one = tmp_path / "run", ("--concepts", "cat", "--prompts", "s01")
    (tmp_path / "odd.py").write_text(METHOD.replace("config.raises_for:", '"cat":'))
    assert run_here(shared(), out, *odd, *one) == 1 and list((out / "failed").iterdir())
    (tmp_path / "odd.py").write_text(METHOD)
    assert run_here(shared(), out, *odd, *one) == 0
    assert not list((out / "failed").iterdir())


def test_a_group_that_could_not_be_scored_is_a_failure_until_it_is(tmp_path, monkeypatch, capsys):
    from benchmarks.running import worker_scores

    def broken(*_):
        raise ValueError("no score today")

    out = copy_of_reference(tmp_path / "run")
    shutil.rmtree(next(out.glob("rows/*/perfusion")))
    with monkeypatch.context() as patch:
        patch.setattr(worker_scores.similarity, "score_cell", broken)
        assert run_here(shared(), out) == 1
    assert (
        "score perfusion/local-b0.60-t0.15/cat: ValueError: no score today"
        in capsys.readouterr().err
    )
    assert (
        read_json(out / "run.json")["finished"] is None
        and len(list((out / "failed").iterdir())) == 2
    )
    assert run_here(shared(), out) == 0
    assert read_json(out / "run.json")["finished"] and not list((out / "failed").iterdir())
    assert content(out) == content(reference())


def test_out_of_memory_splits_a_cell_and_says_so(tmp_path, odd, capsys):
    out = tmp_path / "run"
    assert (
        run_here(
            shared(), out, *odd, "--set", "fit.odd.most=1", "--concepts", "cat", "--prompts", "s01"
        )
        == 0
    )
    about = read_json(next(out.glob("images/odd/*/cat/s01/cell.json")))
    assert about["batches"] == [1, 1] and len(about["seeds"]) == 2
    assert "batches" not in read_json(next(out.glob("images/super/*/cat/s01/cell.json")))


def test_cells_drawn_together_fail_alone(tmp_path, odd, capsys):
    out = tmp_path / "run"
    (tmp_path / "odd.py").write_text(
        METHOD.replace("lambda text: ", 'lambda text: 1 / ("beach" not in text) and ')
    )
    assert run_here(shared(), out, *odd, "--concepts", "cat") == 1
    said = capsys.readouterr().err
    assert "odd/default/cat/s01: ZeroDivisionError" in said and "odd/default/cat/s02" not in said
    assert len(list(out.glob("images/odd/default/cat/*/0.png"))) == 1


def test_kept_training_steps_are_points(tmp_path, odd):
    out, one = tmp_path / "run", ("--concepts", "cat", "--prompts", "s01")
    assert run_here(shared(), out, *odd, *one) == 0
    assert (
        run_here(
            shared(), out, *odd, *one, "--set", "keep=2", "--set", "points.odd=default,default-s2"
        )
        == 0
    )
    assert set(read_plan(out)["point"]) == {"default", "default-s2"}
    assert next(out.glob("fits/odd/cat-*/step-2/most.txt")).read_text() == "0"


def test_pairs_have_rows_and_a_table_of_their_own(tmp_path, capsys):
    out = tmp_path / "run"
    assert run_here(shared(), out, "--pairs", "cat+teapot", "--prompts", "s01") == 0
    pairs = pd.read_csv(out / "pairs.csv")
    assert set(pairs["concept"]) == {"cat+teapot"} and set(pairs["method"]) == {
        "super",
        "perfusion",
    }
    assert pairs[["image_sim_a", "image_sim_b", "text_sim_raw"]].notna().all(axis=None)
    assert not pd.read_csv(out / "samples.csv")["concept"].str.contains(r"\+").any()
    assert pd.read_csv(out / "pair-table.csv")["n_concepts"].eq(1).all()
    assert pd.read_csv(out / "table.csv").query("method != 'real'")["n_images"].eq(4).all(), (
        "pairs do not count there"
    )


def test_images_may_be_dropped_once_scored(tmp_path, capsys):
    out, five = tmp_path / "run", ("--prompts", "5", "--concepts", "cat", "--drop-images")
    assert run_here(shared(), out, *five) == 0
    assert len(list(out.glob("images/perfusion/*/cat/*"))) == 3, "a small gallery stays"
    assert len(read_plan(out)) == 10
    capsys.readouterr()
    assert run_here(shared(), out, *five) == 0
    assert "0 fits and 0 images to do" in capsys.readouterr().err
    rows = {path: path.read_bytes() for path in out.rglob("rows/**/*.csv")}
    assert run(["score", str(out), "--device", "cpu", "--again"]) == 0
    assert "4 of 10 planned cells have no whole images here" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("rows/**/*.csv")} == rows, (
        "rows of dropped images stay"
    )


def test_a_fit_that_no_picture_needs_any_more_is_not_to_do(tmp_path, capsys):
    """A run's rows are there and its trained files are not: only a new prompt needs them again."""
    out, few = tmp_path / "run", ("--prompts", "2", "--concepts", "cat", "--drop-images")
    assert run_here(shared(), out, *few, "--drop-fits", "--no-cache") == 0
    assert not list(out.glob("fits/*/*/*.safetensors"))
    for folder in out.glob("fits/*/*"):
        shutil.rmtree(folder)
    capsys.readouterr()
    assert run(["plan", *arguments(shared(), out, *few), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["total"]["fits"] == about["total"]["fits_done"] == 1
    assert about["seconds_left"] == 0 and not about["not_timed"]
    assert run_here(shared(), out, *few) == 0
    assert "0 fits and 0 images to do" in capsys.readouterr().err
    assert not list(out.glob("fits/*/*/*.safetensors")), "and it is not made"
    assert run(["plan", *arguments(shared(), out, "--prompts", "3", *few[2:]), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["total"]["fits_done"] == 0 and about["total"]["images_done"] > 0


def test_images_may_be_dropped_later(tmp_path):
    out, five = tmp_path / "run", ("--prompts", "5", "--concepts", "cat", "--methods", "super")
    assert run_here(shared(), out, *five) == 0
    assert len(list(out.glob("images/super/*/cat/*"))) == 5
    assert run_here(shared(), out, *five, "--drop-images") == 0
    assert len(list(out.glob("images/super/*/cat/*"))) == 3


def test_a_copied_run_is_scored_again_elsewhere(tmp_path, capsys):
    out = copy_of_reference(tmp_path / "elsewhere" / "moved")
    for path in out.rglob("*.csv"):
        if path.name != "plan.csv":
            path.unlink()
    shutil.rmtree(out / "fits")
    assert run(["score", str(out), "--device", "cpu"]) == 0
    assert "real images (ceiling)" in capsys.readouterr().out
    kept = {
        name: data
        for name, data in content(reference()).items()
        if not name.startswith(("fits/", "table"))
    }
    assert kept.items() <= content(out).items()
    assert run(["score", str(out), "--device", "cpu", "--again"]) == 0
    assert kept.items() <= content(out).items()
    about = read_json(out / "run.json")
    about["config"]["backbone"] = "/on/another/machine/tiny"
    (out / "run.json").write_text(json.dumps(about))
    moved = shutil.copytree(shared() / "tiny" / "scorer", tmp_path / "moved-scorer")
    assert run(["score", str(out), "--device", "cpu", "--again", "--scorers", str(moved)]) == 0
    assert kept.items() <= content(out).items(), (
        "the scorer is known by its bytes, wherever it lies"
    )


def test_what_fits_cost_stays_known_without_them(tmp_path):
    """A committed run has no trained files: its tables and weights are as good as they were."""
    out = copy_of_reference(tmp_path / "run")
    before, weights = content(out), read_run(out)["weights"]
    tables = {name: data for name, data in before.items() if name.startswith("table")}
    shutil.rmtree(out / "fits")
    assert run(["table", str(out)]) == 0
    assert tables and tables.items() <= content(out).items()
    assert run_here(shared(), out) == 0
    assert tables.items() <= content(out).items()
    assert weights and read_run(out)["weights"] == weights
    assert read_run(out)["finished"]


def test_a_scorer_that_could_not_see_every_picture_has_no_columns(tmp_path, capsys):
    """An average over the prompts whose pictures were kept is not the planned one."""
    out, five = tmp_path / "run", ("--prompts", "5", "--concepts", "cat", "--drop-images")
    assert run_here(shared(), out, *five) == 0
    before = pd.read_csv(out / "table.csv").columns.tolist()
    capsys.readouterr()
    assert (
        run(
            [
                "score",
                str(out),
                "--device",
                "cpu",
                "--scorers",
                str(make_scorer(tmp_path / "third", 3)),
            ]
        )
        == 0
    )
    assert (
        "has not scored every planned image: the tables are without it" in capsys.readouterr().err
    )
    assert (
        len(read_run(out)["scorers"]) == 1
        and pd.read_csv(out / "table.csv").columns.tolist() == before
    )


def test_another_scorer_is_added_without_touching_an_image(tmp_path, capsys):
    out = copy_of_reference(tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    second = str(make_scorer(tmp_path / "third", 3))
    assert run(["score", str(out), "--device", "cpu", "--scorers", second]) == 0
    names = [scorer["name"] for scorer in read_json(out / "run.json")["scorers"]]
    assert len(names) == 2 and set(names) == {path.name for path in (out / "rows").iterdir()}
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before
    assert run(["score", str(out), "--device", "cpu"]) == 0
    assert [scorer["name"] for scorer in read_json(out / "run.json")["scorers"]] == names, (
        "what was added stays"
    )
    capsys.readouterr()
    assert run_here(shared(), out) == 0
    assert [scorer["name"] for scorer in read_json(out / "run.json")["scorers"]] == names, (
        "also by the run's own command"
    )
    first, other = (read_rows(out, name) for name in names)
    assert first["key"].equals(other["key"]) and not first["image_sim"].equals(other["image_sim"])
    assert run_here(shared(), out, "--methods", "super", "--prompts", "3") == 0
    assert f"{names[1]} has not scored every planned image" in capsys.readouterr().err
    with pytest.raises(UserError, match="so it must not be reported too"):
        run(["score", str(out), "--device", "cpu", "--scorers", str(shared() / "tiny" / "scorer2")])


def test_dry_run_and_plan_write_nothing(tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    reference()  # which prints, where this test is the first to need it
    capsys.readouterr()
    assert run_here(shared(), out, "--dry-run") == 0
    text = capsys.readouterr().out
    assert "0/16" in text and "time left: not known" in text and not out.exists()
    assert run(["plan", *arguments(shared(), reference()), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (
        about["total"]["images"] == about["total"]["images_done"] == 16
        and about["seconds_left"] == 0
    )
    assert run(["plan", *arguments(shared(), reference(), "--prompts", "4")]) == 0
    alone = capsys.readouterr().out
    assert "time left: about" in alone and "compile" not in alone
    long = ("--set", "images=2000", "--dtype", "bfloat16")
    assert run(["plan", *arguments(shared(), tmp_path / "new", *long)]) == 0
    said = capsys.readouterr().out
    assert "--set compile=true" in said and "batch" not in said, (
        "a long run is told what shortens it"
    )
    with monkeypatch.context() as patch:
        patch.setattr(beforehand, "LONG", 0)
        compiled = ("--dtype", "bfloat16", "--set", "compile=true")
        assert run(["plan", *arguments(shared(), tmp_path / "new", *compiled)]) == 0
    said = capsys.readouterr().out
    assert "compile" not in said
    seconds = []
    for workers in ("1", "4"):
        words = ["--prompts", "4", "--engine", "processes", "--workers", workers, "--json"]
        assert run(["plan", *arguments(shared(), reference(), *words)]) == 0
        seconds.append(json.loads(capsys.readouterr().out)["seconds_left"])
    assert seconds[1] == pytest.approx(seconds[0] / 4, abs=0.1), "four workers share what is left"


def test_ls_runs(tmp_path, monkeypatch, capsys):
    copy_of_reference(tmp_path / "results" / "mine")
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    assert run(["ls", "runs", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (
        row["run"] == "results/mine"
        and row["cells"] == "8/8"
        and row["methods"] == "super,perfusion"
    )
    (tmp_path / "results" / "broken").mkdir()
    (tmp_path / "results" / "broken" / "run.json").write_text('{"schema"')
    assert run(["ls", "runs"]) == 0
    assert "results/mine" in (told := capsys.readouterr().out) and "results/broken" in told


def test_a_run_goes_on_from_its_packed_rows(tmp_path, capsys):
    """As a run that is committed does in a clone: no images, no fits, and rows in one archive."""
    from benchmarks.store.packing import pack_run

    out, other = copy_of_reference(tmp_path / "run"), tmp_path / "other"
    assert run(["table", str(out)]) == 0
    before = content(out)
    pack_run(out)
    for name in ("images", "fits", "concepts"):
        shutil.rmtree(out / name)
    assert run(["table", str(out)]) == 0
    assert content(out) == {
        n: data for n, data in before.items() if n.count("/") == 0 and n != "plan.csv"
    }
    capsys.readouterr()
    assert run_here(shared(), out) == 0
    assert "0 images to do" in capsys.readouterr().err
    assert not (out / "rows").exists(), "nothing lacks, so nothing is written beside the archive"

    copy_of_reference(other)
    for folder in (out, other):
        assert run_here(shared(), folder, "--prompts", "3", "--methods", "super") == 0
    assert "rows" in {path.name for path in out.iterdir()}, "new rows lie beside it"
    names = ("cells.csv", "metrics.csv", "samples.csv")
    assert [(out / name).read_bytes() for name in names] == [
        (other / name).read_bytes() for name in names
    ]
    rows = read_rows(out)
    pack_run(out)
    pd.testing.assert_frame_equal(read_rows(out), rows)
    assert not (out / "rows").exists()
