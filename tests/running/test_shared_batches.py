"""Cells of several points and methods in one batch: which are put together, and that no byte
depends on it.
"""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from run_kit import content, reference, run_here, shared
from test_run import METHOD

from benchmarks.disk import read_json
from benchmarks.planning.config import resolve
from benchmarks.planning.units import Cell, Fit
from benchmarks.running.prepared import prepare_run
from benchmarks.running.tasks import drawn_together, in_whole_batches, needs_of, unit_tasks
from benchmarks.store.reading import read_plan
from perfusion_core import batches, sampling
from perfusion_core.errors import UserError


def planned(*sets):
    flags = {"backbone": str(shared() / "tiny"), "suite": str(shared() / "concepts")}
    return prepare_run(resolve(preset="micro", flags={**flags, "device": "cpu"}, sets=sets)).plan


def pictures(run):
    return {name: data for name, data in content(run).items() if name.endswith(".png")}


def pixels(data):
    return np.asarray(Image.open(BytesIO(data)), int)


@pytest.mark.parametrize(
    "images, batch, cells", [(2, 16, 8), (8, 16, 2), (3, 16, 16), (16, 16, 1), (32, 16, 1)]
)
def test_whole_batches(images, batch, cells):
    assert in_whole_batches(images, batch) == cells and cells * images % batch == 0


def test_cells_of_all_points_fill_batches_after_their_fits():
    plan = planned("points.perfusion=local-b0.60-t0.15,local-b0.75-t0.15", "rows=16", "images=2")
    tasks = unit_tasks(plan, set())
    assert plan.batch == 8
    done, sizes = set(), []
    for task in tasks:
        assert task.needs <= done
        done |= {unit.key for unit in task.units}
        for units in drawn_together(task.units, plan.batch):
            if isinstance(units[0], Cell):
                sizes.append(sum(len(cell.seeds) for cell in units))
    assert done == {unit.key for unit in plan.units} and sizes == [8, 8, 8]
    mixed = [{(c.method, c.point) for c in t.units} for t in tasks if isinstance(t.units[0], Cell)]
    assert max(map(len, mixed)) > 1


def test_a_method_that_changes_more_stays_apart():
    plan = planned("methods=db,lora", "rows=16")
    for task in unit_tasks(plan, set()):
        if len({unit.method for unit in task.units if isinstance(unit, Cell)} - {"super"}):
            assert len({(unit.method, unit.concept) for unit in task.units}) == 1
    fits = [unit for unit in plan.fits if isinstance(unit, Fit) and unit.prior]
    assert fits and all(needs_of(fit) == {fit.prior.key} for fit in fits)


def test_other_groupings_give_the_same_bytes(tmp_path):
    """One concept and prompt after the other, in another order; and with two threads."""
    out = tmp_path / "one-by-one"
    plan = read_plan(reference())
    asked = sorted(set(zip(plan["prompt_id"], plan["concept"])), reverse=True)
    for prompt, concept in asked:
        assert run_here(shared(), out, "--concepts", concept, "--prompts", prompt) == 0
    assert pictures(out) == pictures(reference())
    threads = tmp_path / "threads"
    assert run_here(shared(), threads, "--methods", "super", "--threads", "2") == 0
    theirs = pictures(threads)
    assert theirs == {n: b for n, b in pictures(reference()).items() if n in theirs}


def test_another_number_of_rows_is_another_protocol(tmp_path):
    out = tmp_path / "run"
    assert run_here(shared(), out, "--methods", "super", "--concepts", "cat") == 0
    assert read_json(out / "run.json")["protocol"]["rows"] == 32
    with pytest.raises(UserError, match="rows: 32 -> 8"):
        run_here(shared(), out, "--methods", "super", "--set", "rows=8")


def test_only_the_cells_of_a_lost_fit_are_left_out(tmp_path, capsys):
    """They may stand in one task with others."""
    (tmp_path / "odd.py").write_text(
        METHOD.replace(
            "TRAINED, PRIOR = True, True", "TRAINED, PRIOR = True, True\nTEXT_SIDE = True"
        )
    )
    odd = ("--method-file", str(tmp_path / "odd.py"), "--methods", "odd")
    out = tmp_path / "run"
    assert run_here(shared(), out, *odd, "--set", "fit.odd.raises_for=cat") == 1
    assert "no luck with cat" in capsys.readouterr().err
    assert not list(out.glob("images/odd/*/cat/*")) and list(out.glob("images/odd/*/teapot/*"))


def test_where_rows_see_each_other_one_prompt_is_drawn_at_a_time(tmp_path, monkeypatch, capsys):
    """In a batch of its own rows: 28 of the protocol's 32 would be thrown away."""
    rows, predicted = set(), sampling.predicted

    def counted(unet, x, *args, **told):
        rows.add(len(x))
        return predicted(unet, x, *args, **told)

    monkeypatch.setattr(batches, "rows_are_apart", lambda *_: False)
    monkeypatch.setattr(sampling, "predicted", counted)
    drawn = {}
    for name, groups in ("together", ["cat,teapot"]), ("one by one", ["teapot", "cat"]):
        out = tmp_path / name
        for concepts in groups:
            assert run_here(shared(), out, "--methods", "super", "--concepts", concepts) == 0
            assert "one prompt is drawn at a time" in capsys.readouterr().err
        drawn[name] = pictures(out)
        assert not any("batches" in read_json(path) for path in out.rglob("cell.json"))
    images = read_json(out / "run.json")["config"]["images"]
    assert rows == {2 * images} and drawn["together"] == drawn["one by one"]
    filled = pictures(reference())
    for name, data in drawn["together"].items():
        difference = abs(pixels(data) - pixels(filled[name])).max()
        assert difference <= 4, "low bits, through all steps"


def test_compiled_code_has_one_shape(tmp_path, monkeypatch):
    """Where rows see each other too: another shape would be compiled in the middle of the run."""
    monkeypatch.setattr(batches, "rows_are_apart", lambda *_: False)
    monkeypatch.setattr("perfusion_core.compiling.compile_backbone", lambda *_: 0.0)
    out = tmp_path / "run"
    one = ("--methods", "super", "--concepts", "cat", "--set", "compile=true")
    assert run_here(shared(), out, *one) == 0
    drawn, filled = pictures(out), pictures(reference())
    assert drawn and all(
        np.array_equal(pixels(drawn[name]), pixels(filled[name])) for name in drawn
    )


def test_a_device_is_tried_once(tmp_path, monkeypatch, capsys):
    """The answer is kept beside the cache of units; without that cache the device is tried."""
    monkeypatch.setenv("PERFBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PERFBENCH_CACHE_SIZE", "1GB")
    asked = []
    monkeypatch.setattr(batches, "rows_are_apart", lambda *_: asked.append(1) or False)
    one = ("--methods", "super", "--concepts", "cat")
    for number, more in enumerate([(), (), ("--set", "rows=6"), ("--no-cache",)]):
        assert run_here(shared(), tmp_path / str(number), *one, *more) == 0
        assert "one prompt is drawn at a time" in capsys.readouterr().err
    assert len(asked) == 3 and len(list((tmp_path / "cache" / "batches").iterdir())) == 2
