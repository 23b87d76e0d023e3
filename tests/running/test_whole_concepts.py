"""`perfbench run --by-concept --drop-fits`: one concept after the other, trained files gone once
they are not needed, and no byte of a picture or a score another.
"""

from io import StringIO

import pytest
from run_kit import content, reference, run_here, shared
from test_shared_batches import planned

from benchmarks.planning.units import Cell, Fit
from benchmarks.running.driver import Driver
from benchmarks.running.progress import Progress
from benchmarks.running.tasks import Event, concept_tasks, unit_tasks
from benchmarks.store.reading import planned_fits
from benchmarks.store.run_folder import Store


def concepts_of(units):
    return {name for unit in units if isinstance(unit, Cell) for name in unit.concepts} | {
        unit.concept for unit in units if isinstance(unit, Fit)
    }


@pytest.fixture(scope="module")
def plan():
    return planned(
        "methods=perfusion,db", "drift=true", "rows=16", "images=1",
        "points.perfusion=local-b0.60-t0.15,local-b0.75-t0.15",
    )  # fmt: skip


def test_a_concept_is_done_before_the_next_begins(plan):
    tasks = concept_tasks(plan, set())
    order = [sorted(concepts_of(task.units) - {"plain-words"}) for task in tasks]
    told = [names for names in order if names]
    assert all(len(names) == 1 for names in told), "no task waits for another concept"
    assert told == sorted(told, key=lambda names: names != told[0])
    assert len({names[0] for names in told}) == 2


def test_the_same_units_each_after_what_it_needs(plan):
    done: set[str] = set()
    for task in concept_tasks(plan, set()):
        assert task.needs <= done
        keys = [unit.key for unit in task.units]
        assert not done & set(keys) and len(set(keys)) == len(keys)
        done |= set(keys)
    usual = {unit.key for task in unit_tasks(plan, set()) for unit in task.units}
    assert done == usual == {unit.key for unit in plan.units}
    left = concept_tasks(plan, done - {plan.cells[-1].key})
    assert [unit.key for task in left for unit in task.units] == [plan.cells[-1].key]


class TwoWorkers:
    """Each does what it was given, the first that began first; `begun` has the tasks in turn."""

    def __init__(self):
        self.busy, self.begun = {}, []

    def idle(self):
        return [number for number in (0, 1) if number not in self.busy]

    def start(self, worker, task):
        self.busy[worker] = task
        self.begun.append(task)

    def pump(self, handle, _timeout):
        worker = next(iter(self.busy))
        task = self.busy.pop(worker)
        for unit in task.units:
            handle(Event("done", unit, seconds=1.0))
        return [(worker, task, "")]

    def close(self, kill):
        assert not kill


class Unscored:
    def groups(self):
        return {}


def test_two_workers_keep_to_the_order_of_concepts(plan, tmp_path):
    """What waits for a fit that the other worker makes is drawn before the next concept's fits."""
    pool = TwoWorkers()
    progress = Progress(plan.images, StringIO())
    Driver(Store(tmp_path), plan, Unscored(), set(), progress, by_concept=True).run(pool)
    assert {unit.key for task in pool.begun for unit in task.units} == {
        unit.key for unit in plan.units
    }
    first, second = dict.fromkeys(name for task in pool.begun for name in owners(task))
    order = [owners(task)[0] for task in pool.begun if owners(task)]
    # the other worker may begin the next concept while the last fit of this one is made
    assert order.index(second) >= order.count(first) - 2


def owners(task):
    return sorted(concepts_of(task.units) - {"plain-words"})


@pytest.fixture(scope="module")
def dropped(tmp_path_factory):
    out = tmp_path_factory.mktemp("dropped") / "run"
    assert run_here(shared(), out, "--by-concept", "--drop-fits", "--no-cache") == 0
    return out


def test_files_go_and_what_they_cost_stays(dropped):
    folders = [path.parent for path in dropped.glob("fits/*/*/fit.json")]
    assert len(folders) == 2
    assert all([one.name for one in folder.iterdir()] == ["fit.json"] for folder in folders)
    for _, _, about in planned_fits(dropped):
        assert about["seconds"] > 0 and about["files"]["concept.safetensors"]["bytes"] > 0


def test_pictures_and_scores_are_the_usual_ones(dropped):
    mine, usual = content(dropped), content(reference())
    weights = {name for name in usual if name.endswith(".safetensors")}
    assert weights and mine == {name: usual[name] for name in usual.keys() - weights}


def test_nothing_is_trained_again(dropped, capsys):
    before = {path: path.stat().st_mtime_ns for path in dropped.glob("fits/*/*/fit.json")}
    rows = {path: path.stat().st_mtime_ns for path in dropped.glob("rows/**/*.csv")}
    assert run_here(shared(), dropped, "--by-concept", "--drop-fits", "--no-cache") == 0
    assert "nothing new" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert rows == {path: path.stat().st_mtime_ns for path in rows}


def test_a_fit_that_a_later_picture_needs_is_made_again(dropped):
    """The last test: it adds to the run."""
    more = "points.perfusion=local-b0.60-t0.15,local-b0.75-t0.15"
    words = ("--by-concept", "--drop-fits", "--no-cache", "--set", more, "--concepts", "cat")
    assert run_here(shared(), dropped, *words) == 0
    assert list(dropped.glob("rows/*/perfusion/local-b0.75-t0.15/cat.csv"))
    assert not list(dropped.glob("fits/*/*/*.safetensors"))
