"""The table of ablations says what the method, the flag, the legend and the panel are."""

import dataclasses

from baselines import super_category
from benchmarks.figures.looks import style_of
from benchmarks.planning.ablations import ABLATIONS, BASE
from benchmarks.planning.methods import VARIANTS
from benchmarks.planning.points import OperatingPoint
from benchmarks.running.flags import ablated
from benchmarks.scoring.reserved import FLOOR
from perfusion_core.perfusion import Config


def test_every_ablation_changes_one_thing_that_the_method_has():
    known = {field.name for field in dataclasses.fields(Config)}
    for one in ABLATIONS:
        assert len(one.config) + bool(one.points) == (one.method != BASE), one.name
        assert set(one.config) <= known, one.name
    assert [one.name for one in ABLATIONS if one.method == BASE] == ["lock"]


def test_the_table_reaches_the_flag_the_methods_and_the_legend():
    for one in ABLATIONS:
        assert ablated(one.name) == list(dict.fromkeys([BASE, one.method]))
        if one.method != BASE:
            assert (VARIANTS[one.method].config, VARIANTS[one.method].points) == (
                one.config,
                one.points,
            )
            assert style_of(one.method, "local").label == f"Perfusion, {one.label}"


def test_the_temperature_of_training_is_tried_at_every_bias():
    (cold,) = (one for one in ABLATIONS if one.name == "infer-temperature")
    assert {OperatingPoint.parse(name).temperature for name in cold.points} == {0.10}
    assert "local-b0.60-t0.10" in cold.points and len(cold.points) == 9


def test_the_floor_is_the_method_of_that_name():
    assert super_category.NAME == FLOOR
