"""Config x catalog -> units: the paper's counts, keys that change with all that matters and with
nothing else.
"""

import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.planning.config import Config, look_steps, protocol, resolve
from benchmarks.planning.plan import choose_prompts, make_plan, seed_of
from benchmarks.planning.points import OperatingPoint
from benchmarks.planning.units import Cell, Facts, Fit, Method, Prior
from benchmarks.running.tasks import CHUNK, unit_tasks
from benchmarks.suite.catalog import Catalog, load_catalog, shipped_prompts
from benchmarks.suite.concept_folder import Concept
from perfusion_core.errors import UserError

ANIMATED = ("cat_toy", "sculpture", "teddy", "tortoise", "cat", "dog", "puppy")
ELEVEN = dict.fromkeys(ANIMATED, "animated")
ELEVEN |= {
    "pot": "container",
    "teapot": "container",
    "chair": "furniture",
    "sunglasses": "wearable",
}
FACTS = Facts("backbone", "covariance", "float32", "selector")
SUPER = Method("super", "super", "1", False, False, {}, covariance=False)
PERFUSION = Method("perfusion", "perfusion", "1", True, False, {"steps": 400}, select=True)
DB = Method("db", "db", "1", True, True, {"steps": 800}, covariance=False)


def a_concept(name: str, group: str) -> Concept:
    return Concept(
        name, name.split("_")[-1], group, False, "", "", (Path("0.png"),), (), f"digest of {name}"
    )


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return shipped_prompts("eleven", [a_concept(name, group) for name, group in ELEVEN.items()])


def plan_of(
    catalog, config=None, methods=(SUPER, PERFUSION, DB), facts=FACTS, names=("cat", "teapot")
):
    config = config or resolve(preset="micro")
    return make_plan(
        config, catalog, [c for c in catalog.concepts if c.name in names], methods, facts
    )


def test_one_operating_point_is_3776_images(catalog):
    plan = make_plan(Config(), catalog, catalog.concepts, [SUPER], FACTS)
    assert plan.images == 3776 == 8 * (11 * 19 + 263)
    assert len(plan.cells) == 11 * 19 + 263
    by_concept = Counter(cell.concept for cell in plan.cells)
    assert (
        by_concept["cat"],
        by_concept["pot"],
        by_concept["chair"],
        by_concept["sunglasses"],
    ) == (49, 35, 30, 29)


def test_a_hundred_thousand_images_plan_in_two_seconds(catalog):
    config = resolve(sets=["images=24"])
    started = time.process_time()
    plan = make_plan(config, catalog, catalog.concepts, [SUPER, PERFUSION], FACTS)
    assert plan.images > 100_000
    assert time.process_time() - started < 2
    assert len({unit.key for unit in plan.units}) == len(plan.units)


def test_super_is_planned_for_every_subject_with_the_same_noise(catalog):
    plan = plan_of(catalog, resolve(preset="micro", sets=["pairs=cat+teapot"]))
    floor = {(c.concept, c.prompt_id): c.seeds for c in plan.cells if c.method == "super"}
    others = {(c.concept, c.prompt_id): c.seeds for c in plan.cells if c.method != "super"}
    assert floor == others
    with pytest.raises(UserError, match="super must be planned"):
        plan_of(catalog, methods=[PERFUSION])


def test_seed_is_of_base_concept_prompt_and_index_alone(catalog):
    plan = plan_of(catalog)
    more = plan_of(
        catalog,
        resolve(preset="micro", sets=["images=4", "steps=9"]),
        names=("teapot", "cat", "dog"),
    )
    seeds = {(c.method, c.concept, c.prompt_id): c.seeds for c in more.cells}
    for cell in plan.cells:
        assert seeds[cell.method, cell.concept, cell.prompt_id][:2] == cell.seeds
        assert cell.seeds[1] == seed_of(0, cell.concept, cell.prompt_id, 1)
    everything = [
        s
        for c in make_plan(Config(), catalog, catalog.concepts, [SUPER], FACTS).cells
        for s in c.seeds
    ]
    assert len(set(everything)) == len(everything) and max(everything) < 2**48
    assert seed_of(0, "cat", "s01", 0) == 171096955090480, "published numbers depend on this value"


METHODS = {
    "method version": replace(PERFUSION, version="2"),
    "method config": replace(PERFUSION, config={"steps": 10}),
    "selection": replace(PERFUSION, select=False),
}
MODELS = {
    "backbone": replace(FACTS, backbone="other"),
    "C": replace(FACTS, covariance="other"),
    "dtype": replace(FACTS, dtype="bfloat16"),
    "compiling": replace(FACTS, compiled=True),
    "selecting scorer": replace(FACTS, selector="other"),
}
SETS = {
    "base seed": "seed=1",
    "number of images": "images=3",
    "sampling steps": "steps=6",
    "guidance": "guidance=7",
    "bias": "points.perfusion=local-b0.61-t0.15",
    "lock": "points.perfusion=global-b0.60-t0.15",
    "validation steps": "validate_every=3",
    "validation's sampling steps": "validate_steps=3",
}


@pytest.mark.parametrize("what", [*METHODS, *MODELS, *SETS])
def test_the_key_of_a_cell_changes_with(what, catalog):
    def keys(name=""):
        config = resolve(preset="micro", sets=[SETS[name]] if name in SETS else [])
        methods = [SUPER, METHODS.get(name, PERFUSION)]
        plan = plan_of(catalog, config, methods, MODELS.get(name, FACTS))
        return {(c.concept, c.prompt_id): c.key for c in plan.cells if c.method == "perfusion"}

    before, after = keys(), keys(what)
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())


def test_validation_draws_as_many_steps_as_others_unless_told_otherwise(catalog):
    """A fit that is judged by the same pictures is the same fit; no protocol has a key for it."""
    plain, few = resolve(preset="micro"), resolve(preset="micro", sets=["validate_steps=3"])
    as_usual = resolve(preset="micro", sets=[f"validate_steps={plain.steps}"])
    fits, of_few, of_usual = (
        {fit.key for fit in plan_of(catalog, config, [SUPER, PERFUSION]).fits}
        for config in (plain, few, as_usual)
    )
    assert of_usual == fits and not of_few & fits
    untold = protocol(plain)
    assert "validate_steps" not in untold and protocol(few)["validate_steps"] == 3
    assert (look_steps(plain), look_steps(few)) == (plain.steps, 3)
    with pytest.raises(UserError, match=r"validate_steps=-1: at least 0 is needed"):
        resolve(sets=["validate_steps=-1"])


def test_compiling_is_in_every_key_and_plain_keys_are_what_they_were(catalog):
    plain, compiled = (
        plan_of(catalog, facts=facts) for facts in (FACTS, replace(FACTS, compiled=True))
    )
    pinned = "03a12e8ea1bb1a2c39720842f50b7ef5fbc2037c36a5a6a1ba2ed946a98b60af"
    assert plain.digest == pinned, "begun runs depend on this value"
    assert {type(unit) for unit in plain.units} == {Prior, Fit, Cell}
    assert not {unit.key for unit in plain.units} & {unit.key for unit in compiled.units}


def test_the_key_changes_with_concept_prompt_and_texts(catalog):
    def keys(changed):
        return {(c.method, c.concept, c.prompt_id): c.key for c in plan_of(changed).cells}

    before = keys(catalog)
    cat = a_concept("cat", "animated")
    other_images = replace(
        catalog,
        concepts=(replace(cat, digest="other"), *(c for c in catalog.concepts if c.name != "cat")),
    )
    after = keys(other_images)
    changed = {address for address in before if before[address] != after[address]}
    assert changed == {a for a in before if a[1] == "cat" and a[0] != "super"}, (
        "super sees no concept image"
    )
    prompts = tuple(
        replace(p, template=p.template + " today") if p.id == "s01" else p for p in catalog.prompts
    )
    after = keys(replace(catalog, prompts=prompts))
    assert {a for a in before if before[a] != after[a]} == {a for a in before if a[2] == "s01"}
    word = replace(
        catalog, concepts=tuple(replace(c, super_category="thing") for c in catalog.concepts)
    )
    assert not set(keys(word).values()) & set(before.values())
    for changes in ({"templates": ("one {}",)}, {"validation": catalog.validation[:2]}):
        after = keys(replace(catalog, **changes))
        assert before["super", "cat", "s01"] == after["super", "cat", "s01"]
        assert before["perfusion", "cat", "s01"] != after["perfusion", "cat", "s01"]


@pytest.mark.parametrize(
    "place",
    [
        "device=cpu",
        "engine=ray",
        "workers=3",
        "threads=7",
        "out=elsewhere",
        "cache=none",
        "drop_images=true",
    ],
)
def test_keys_do_not_know_the_place(place, catalog):
    assert plan_of(catalog, resolve(preset="micro", sets=[place])).digest == plan_of(catalog).digest


def test_the_prior_is_shared_and_its_change_reaches_the_cells(catalog):
    lora = replace(DB, name="other", base="other")
    plan = plan_of(catalog, methods=[SUPER, DB, lora])
    assert [p.super_category for p in plan.priors] == ["cat", "teapot"]
    assert {fit.prior for fit in plan.fits if fit.concept == "cat"} == {plan.priors[0]}
    more = plan_of(catalog, resolve(preset="micro", sets=["prior_images=5"]), methods=[SUPER, DB])
    assert not {c.key for c in plan.cells if c.method == "db"} & {c.key for c in more.cells}


def test_points_and_run_time_variants_share_one_fit(catalog):
    config = resolve(preset="micro", sets=["points.perfusion=local-b0.6-t0.15,global-b0.45-t0.15"])
    warm = replace(PERFUSION, name="perfusion-warm", points=("local-b0.60-t0.30",))
    plan = plan_of(catalog, config, methods=[SUPER, PERFUSION, warm])
    assert len(plan.fits) == 2
    assert {(c.method, c.point) for c in plan.cells} == {
        ("super", "default"),
        ("perfusion", "local-b0.60-t0.15"),
        ("perfusion", "global-b0.45-t0.15"),
        ("perfusion-warm", "local-b0.60-t0.30"),
    }


def test_a_kept_step_is_a_point(catalog):
    with pytest.raises(UserError, match="add --set keep=5"):
        plan_of(catalog, resolve(preset="micro", sets=["points.db=default-s5"]))
    kept = plan_of(
        catalog,
        resolve(preset="micro", sets=["points.db=default,default-s5", "keep=5"]),
        methods=[SUPER, DB],
    )
    assert {(c.point, c.step) for c in kept.cells if c.method == "db"} == {
        ("default", 0),
        ("default-s5", 5),
    }
    assert {f.key for f in kept.fits} == {f.key for f in plan_of(catalog, methods=[SUPER, DB]).fits}


def test_kept_steps_that_a_method_never_comes_to(catalog):
    """keep=5,500 of a method of 800 steps beside one of 400: each keeps what it has, and no point
    asks for more.
    """
    sets = ["points.db=default-s500", "keep=5,500"]
    plan = plan_of(catalog, resolve(preset="micro", sets=sets))
    assert {fit.method: fit.keep for fit in plan.fits} == {"perfusion": (5,), "db": (5, 500)}
    with pytest.raises(UserError, match="perfusion trains 400 steps"):
        plan_of(
            catalog, resolve(preset="micro", sets=["points.perfusion=local-s500", "keep=5,500"])
        )


def test_a_step_is_not_picked_by_what_is_tested(catalog):
    """A suite whose prompts are all of our validation prompts leaves none to pick by."""
    suite = shipped_prompts("own", catalog.concepts, catalog.validation)
    assert {fit.method for fit in plan_of(suite, methods=[SUPER, DB]).fits} == {"db"}
    with pytest.raises(
        UserError, match=r"perfusion picks its training step by .*; leave at least one of them out"
    ):
        plan_of(suite)


def test_variants_that_come_to_the_same_are_units_of_their_own(catalog):
    """`--masks none --ablation no-mask`, or a point under two names: the same pictures, each in its
    own place.
    """
    config = resolve(preset="micro", sets=["points.perfusion=local-b0.60-t0.15,b0.60-local-t0.15"])
    twin = replace(PERFUSION, name="perfusion-no-mask")
    plan = plan_of(catalog, config, methods=[SUPER, PERFUSION, twin])
    assert len({cell.key for cell in plan.cells}) == len(plan.cells) == 4 + 2 * 2 * 4
    assert len(plan.fits) == 2, "they share fits"
    assert sum(len(task.units) for task in unit_tasks(plan, set())) == len(plan.cells) + 2


def test_pairs_stand_in_their_prompts(catalog):
    plan = plan_of(catalog, resolve(preset="micro", sets=["pairs=cat+teapot"]))
    pairs = [cell for cell in plan.cells if cell.kind == "pair" and cell.method == "perfusion"]
    assert pairs and all(cell.concept == "cat+teapot" and len(cell.fits) == 2 for cell in pairs)
    first = next(cell for cell in pairs if cell.prompt_id == "m01")
    assert first.template == "A {cat} is sailing inside a {teapot} in a lake"
    alone = plan_of(
        catalog,
        resolve(preset="micro", sets=["pairs=cat+teapot"]),
        [SUPER, replace(DB, pairs=False)],
    )
    assert {cell.method for cell in alone.cells if cell.kind == "pair"} == {"super"}
    prompt = next(pair for pair in catalog.pairs if pair.id == "m01")
    assert first.text == catalog.scored_text(
        prompt, *(catalog.concept(name) for name in ("cat", "teapot"))
    )
    for given, told in (
        ("cat", "not two concepts"),
        ("cat+cat", "not two concepts"),
        ("cat+teapt", "did you mean 'teapot'"),
    ):
        with pytest.raises(UserError, match=told):
            plan_of(catalog, resolve(preset="micro", sets=[f"pairs={given}"]))


def test_prompts_by_name_kind_and_number(catalog):
    def ids(*given, group="animated"):
        return [p.id for p in choose_prompts(given, catalog.prompts, group)]

    assert len(ids("all")) == 49 and len(ids("shape")) == 19 and len(ids("deform")) == 30
    assert ids("s02", "a03", "s01") == ["s01", "s02", "a03"]
    ten = ids("10", group="furniture")
    assert len(ten) == 10 and sum(i.startswith("s") for i in ten) == 5
    assert ids("a03", group="container") == []
    shapes = [p for p in catalog.prompts if p.kind == "shape"]  # other suites have one kind only
    assert len(choose_prompts(["10"], shapes, "animated")) == 10
    deform = [p for p in catalog.prompts if p.kind == "deform" and p.group == "animated"]
    assert len(choose_prompts(["10"], deform, "animated")) == 10
    numbered = [replace(shapes[0], id="07"), *shapes[1:]]
    assert [p.id for p in choose_prompts(["07"], numbered, "animated")] == ["07"], (
        "a name before a number"
    )
    with pytest.raises(UserError, match="unknown prompt 'shap'; did you mean 'shape'"):
        ids("shap")
    with pytest.raises(UserError, match="no prompt is left"):
        plan_of(catalog, resolve(preset="micro", sets=["prompts=f01"]))


def test_names_of_points():
    parse = OperatingPoint.parse
    assert parse("local-b0.60-t0.15").settings == {
        "lock": "local",
        "bias": 0.6,
        "temperature": 0.15,
    }
    assert parse("default").settings == {} and parse("default-s25").step == 25
    assert parse("strength=0.5-mode=soft").settings == {"strength": 0.5, "mode": "soft"}
    assert str(parse("local-b0.6-t0.15")) == "local-b0.60-t0.15"
    assert str(parse("local-b0.625-t0.15")) == "local-b0.625-t0.15"
    with pytest.raises(UserError, match="'locl' is not a lock"):
        parse("locl-b0.60")


def test_tasks_keep_the_order_and_what_they_need(catalog):
    plan = plan_of(catalog, resolve(preset="micro", sets=["prompts=all"]))
    tasks = unit_tasks(plan, set())
    assert [u.key for t in tasks for u in t.units if hasattr(u, "prompt_id")] == [
        c.key for c in plan.cells
    ]
    assert Counter(u.key for t in tasks for u in t.units) == Counter(u.key for u in plan.units)
    seen: set[str] = set()
    for task in tasks:
        assert task.needs <= seen and len(task.units) <= CHUNK
        seen |= {unit.key for unit in task.units}
    done = {cell.key for cell in plan.cells}
    assert unit_tasks(plan, done) == [], "a fit whose cells are all done is not trained again"


def test_planning_needs_no_torch():
    modules = "benchmarks.planning.plan, benchmarks.store.run_folder, benchmarks.running.driver"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_shipped_prompts_are_the_default():
    assert len(load_catalog("miniature").prompts) == 86
