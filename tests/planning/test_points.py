"""An operating point and its name are one thing written in two ways."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_kit import committed_runs

from benchmarks.planning.points import LOCKS, OperatingPoint
from benchmarks.store.reading import read_planned
from perfusion_core import perfusion_settings
from perfusion_core.errors import UserError

NUMBERS = st.none() | st.floats(0, 1e9, allow_subnormal=False)
KEYS = st.from_regex(r"[a-z_]+", fullmatch=True).filter(lambda key: key != "step")
VALUES = st.from_regex(r"[A-Za-z0-9._]+", fullmatch=True)
POINTS = st.builds(
    OperatingPoint,
    lock=st.sampled_from((None, *LOCKS)),
    bias=NUMBERS,
    temperature=NUMBERS,
    step=st.none() | st.integers(0, 10_000),
    free=st.dictionaries(KEYS, VALUES, max_size=3).map(lambda found: tuple(sorted(found.items()))),
)


@settings(deadline=None, derandomize=True)
@given(POINTS)
def test_a_point_is_what_its_name_says(point):
    assert OperatingPoint.parse(str(point)) == point
    assert str(OperatingPoint.parse(str(point))) == str(point)


@settings(deadline=None, derandomize=True)
@given(POINTS, st.randoms(use_true_random=False))
def test_a_name_keeps_its_order(point, random):
    parts = str(point).split("-")
    random.shuffle(parts)
    again = OperatingPoint.parse("-".join(parts))
    assert str(again) == "-".join(parts)
    assert again == point and hash(again) == hash(point), "the same point under another name"


def test_every_committed_name_is_printed_as_it_is_read():
    runs = committed_runs()
    names = {row["point"] for run in runs for row in read_planned(run)}
    assert len(runs) >= 13 and {"default", "local-b0.60-t0.15", "local-b0.60-t0.15-s100"} <= names
    assert {str(OperatingPoint.parse(name)) for name in names} == names


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("local-b0.6-t0.15", "local-b0.60-t0.15"),
        ("local-b0.60-t0.15-s100", "local-b0.60-t0.15-s100"),
        ("default", "default"),
        ("default-s100", "default-s100"),
        ("s100", "s100"),
        ("b0.00001", "b0.00001"),
        ("b0.123456789", "b0.123456789"),
        ("strength=0.5", "strength=0.5"),
        ("strength=0.50-mode=soft-s25", "strength=0.50-mode=soft-s25"),
    ],
)
def test_names(given, name):
    assert str(OperatingPoint.parse(given)) == name


def test_a_changed_point_has_the_name_of_what_it_is():
    point = OperatingPoint.parse("local-b0.60-t0.15")
    assert str(replace(point, temperature=0.1, step=50)) == "local-b0.60-t0.10-s50"
    assert (
        str(replace(OperatingPoint.parse("default"), step=25))
        == "default-s25"
        == str(OperatingPoint(step=25))
    )
    assert (
        str(replace(OperatingPoint.parse("b0.60"), bias=None)) == "default" == str(OperatingPoint())
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("local-global", "says lock twice, local and global"),
        ("b0.60-b0.70", "says bias twice, 0.60 and 0.70"),
        ("mode=a-mode=b", "twice, a and b"),
        ("step=100", "s<training step>"),
        ("", "'' is not a lock"),
        ("local--b0.60", "'' is not a lock"),
        ("b-1", "'b' is not a lock"),
        ("s1.5", "'s1.5' is not a lock"),
    ],
)
def test_what_is_not_a_point_is_said(name, words):
    with pytest.raises(UserError, match=words):
        OperatingPoint.parse(name)


def test_the_locks_are_those_of_the_method():
    assert LOCKS == perfusion_settings.LOCKS
