"""Cells that measure drift: how many, whose noise, what is shared, and that no key of the protocol
knows of them.
"""

from dataclasses import replace

import pytest
from test_plan import DB, ELEVEN, FACTS, PERFUSION, SUPER, a_concept

from benchmarks.planning.config import Config, resolve
from benchmarks.planning.plan import make_plan, seed_of
from benchmarks.running.tasks import unit_tasks
from benchmarks.suite.catalog import shipped_prompts
from benchmarks.suite.drift_kinds import PLAIN
from perfusion_core.errors import UserError


@pytest.fixture(scope="module")
def catalog():
    return shipped_prompts("eleven", [a_concept(name, group) for name, group in ELEVEN.items()])


def planned(catalog, *sets, methods=(SUPER, PERFUSION, DB), facts=FACTS, names=None):
    config = resolve(sets=sets)
    concepts = [c for c in catalog.concepts if names is None or c.name in names]
    return make_plan(config, catalog, concepts, methods, facts)


def test_the_paper_has_it_and_short_presets_have_not():
    assert Config().drift and resolve().drift
    assert not resolve(preset="micro").drift and not resolve(preset="quick").drift
    assert resolve(preset="quick", flags={"drift": True}).drift


def test_two_pictures_a_prompt_fit_and_point(catalog):
    plan = planned(catalog)
    base = [cell for cell in plan.drift if cell.concept == PLAIN]
    points = 9 + 1  # of perfusion and of db; super is what they are compared with
    classes = {concept.super_category for concept in catalog.concepts}
    assert len(base) == 10 + len(classes)
    assert len(plan.drift) == len(base) + points * 11 * 11
    assert all(len(cell.seeds) == 2 for cell in plan.drift)
    assert {cell.method for cell in plan.drift} == {"super", "perfusion", "db"}
    assert {cell.kind for cell in plan.drift} == {"drift", "drift_class"}


def test_some_methods_and_points_alone(catalog):
    """With the keys that they have among all; no other picture changes."""
    whole = planned(catalog)
    local = "local-b0.60-t0.15"
    some = planned(catalog, f"drift_of=db,perfusion/{local}")
    assert len([cell for cell in some.drift if cell.concept != PLAIN]) == 2 * 11 * 11
    assert {(c.method, c.point) for c in some.drift if c.concept != PLAIN} == {
        ("db", "default"),
        ("perfusion", local),
    }
    assert {cell.key for cell in some.drift} < {cell.key for cell in whole.drift}
    assert (some.cells, some.fits, some.digest) == (whole.cells, whole.fits, whole.digest)
    assert planned(catalog, "drift_of=all,db").drift == whole.drift
    with pytest.raises(UserError, match=r"unknown method or point in drift_of 'perfusio'; did you"):
        planned(catalog, "drift_of=perfusio")
    with pytest.raises(UserError, match=r"drift_of is empty; write for example --set drift_of=all"):
        planned(catalog, "drift_of=")


def test_the_protocol_does_not_know_of_it(catalog):
    with_it, without = planned(catalog), planned(catalog, "drift=false")
    assert with_it.drift and not without.drift
    assert (with_it.cells, with_it.fits, with_it.priors) == (
        without.cells,
        without.fits,
        without.priors,
    )
    assert with_it.images == without.images and with_it.digest == without.digest
    assert without.units == (*without.priors, *without.fits, *without.cells)


def test_the_plain_backbone_draws_each_text_once_with_the_same_noise(catalog):
    plan = planned(catalog, names=("cat", "teapot"))
    base = {cell.prompt_id: cell for cell in plan.drift if cell.concept == PLAIN}
    for cell in plan.drift:
        assert cell.seeds == base[cell.prompt_id].seeds
        assert cell.template == base[cell.prompt_id].template == cell.text
        assert "{" not in cell.template
    unrelated = base["drift.u01"]
    assert unrelated.seeds == tuple(seed_of(0, "drift", "drift.u01", k) for k in range(2))
    other = planned(catalog, names=("chair",), methods=(SUPER, DB))
    assert unrelated in other.drift  # of any concept and method the same pictures, with one key
    assert planned(catalog, "seed=1", names=("chair",)).drift[0].key != unrelated.key


def test_keys_are_of_all_that_decides_bytes(catalog):
    first = planned(catalog, names=("cat",))
    keys = {cell.key for cell in first.drift}
    assert len(keys) == len(first.drift)
    for facts in (replace(FACTS, dtype="bfloat16"), replace(FACTS, backbone="another")):
        assert not keys & {cell.key for cell in planned(catalog, facts=facts).drift}
    trained = replace(PERFUSION, config={"steps": 401})
    again = planned(catalog, names=("cat",), methods=(SUPER, trained))
    same = keys & {cell.key for cell in again.drift}
    assert same == {cell.key for cell in again.drift if cell.concept == PLAIN}
    assert keys == {cell.key for cell in planned(catalog, names=("cat",)).drift}


def test_a_fit_and_point_ends_with_its_drift(catalog):
    plan = planned(catalog, names=("cat", "teapot"))
    drawn = plan.drawn
    assert {cell.key for cell in drawn} == {c.key for c in (*plan.cells, *plan.drift)}
    assert len(drawn) == len(plan.cells) + len(plan.drift)
    assert [cell.concept == PLAIN for cell in drawn[:12]] == [True] * 12
    place = {cell.key: number for number, cell in enumerate(drawn)}
    for method, point, concept in {(c.method, c.point, c.concept) for c in plan.cells}:
        mine = [c for c in drawn if (c.method, c.point, c.concept) == (method, point, concept)]
        kinds = [cell.row.drifts for cell in mine]
        assert kinds == sorted(kinds)
        numbers = [place[cell.key] for cell in mine]
        assert numbers == list(range(numbers[0], numbers[0] + len(mine)))


def test_cells_of_one_size_are_drawn_together(catalog):
    text_side = replace(PERFUSION, text_side=True)
    plan = planned(catalog, names=("cat",), methods=(replace(SUPER, text_side=True), text_side))
    tasks = unit_tasks(plan, set())
    made = [unit.key for task in tasks for unit in task.units]
    assert sorted(made) == sorted(unit.key for unit in plan.units)
    for task in tasks:
        assert len({len(getattr(unit, "seeds", ())) for unit in task.units}) == 1


@pytest.mark.parametrize("pairs", ["cat+teapot"])
def test_pairs_have_none(catalog, pairs):
    plan = planned(catalog, f"pairs={pairs}", names=("cat", "teapot"))
    assert plan.drift and all("+" not in cell.concept for cell in plan.drift)


def test_without_unrelated_prompts_nothing_is_planned(catalog):
    bare = replace(catalog, drift=())
    assert not planned(bare).drift and planned(bare).cells == planned(catalog).cells
