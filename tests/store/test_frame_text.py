"""Text of frames is what pandas writes, byte for byte; what is read is the nearest double and the
very word.
"""

import numpy as np
import pandas as pd
import pytest

from benchmarks.store.csv_files import (
    NUMBERS,
    PLAN_ROW,
    planned_text,
    read_frame,
    read_plan_file,
    read_plan_frame,
    rows_text,
)
from benchmarks.store.frame_text import float_text, frame_of_text, text_of_frame

EDGES = [
    0.0,
    -0.0,
    1.0,
    -3.0,
    1e-4,
    9.999999e-5,
    5e-324,
    1e9,
    1e10,
    50781992251.508606,
    1e15,
    1e16,
    1.7976931348623157e308,
    0.1 + 0.2,
    1 / 3,
    123456.5,
]


def numbers() -> np.ndarray:
    random = np.random.default_rng(0)
    wide = random.integers(0, 2**63, 20_000).view(np.float64)
    return np.concatenate([EDGES, wide[np.isfinite(wide)], random.normal(0, 0.3, 20_000).round(6)])


def test_a_float_is_spelled_as_python_spells_it():
    values = numbers()
    assert float_text(values).to_pylist() == [repr(value) for value in values.tolist()]


@pytest.mark.parametrize("word", ["null", "a,b", 'a "word"', "two\nlines", "é", ""])
def test_a_frame_is_written_as_pandas_writes_it(word):
    values = numbers()[:500]
    frame = pd.DataFrame(
        {"name": "cat", "n": np.arange(500), "score": values, "whole": np.arange(500) * 1.0}
    )
    frame.loc[3, ["name", "score"]] = [word, np.nan]
    frame["name"] = frame["name"].astype("str")
    for some in (
        frame,
        frame.iloc[:0],
        frame.assign(flag=True),
        frame[["name"]],
        frame.rename(columns={"n": "n,m"}),
    ):
        assert text_of_frame(some) == some.to_csv(index=False, lineterminator="\n")


def test_every_score_of_six_decimals_is_read_exactly():
    words = [f"{number / 1e6:.6f}" for number in range(-20_000, 1_000_001, 7)]
    frame = frame_of_text(
        ("a,b\n" + "".join(f"{word},x\n" for word in words)).encode(), {"a": "float64"}
    )
    assert frame["a"].tolist() == [float(word) for word in words]


def test_rows_are_read_as_they_were_written(tmp_path):
    rows = [
        {
            "key": "0" * 64,
            "method": "null",
            "point": "NA",
            "concept": "nan",
            "group": "",
            "prompt_id": 'a,"b"',
            "kind": "shape",
            "index": n,
            "seed": 2**47 + n,
            "image_sim": score,
            "text_sim_raw": "0.250000",
        }
        for n, score in enumerate(["0.812345", "", "-0.000001"])
    ]
    path = tmp_path / "null.csv"
    path.write_text(rows_text(rows))
    frame = read_frame([path, tmp_path / "absent.csv"])
    assert frame.drop(columns="image_sim").to_dict("records") == [
        {**{k: v for k, v in row.items() if k != "image_sim"}, "text_sim_raw": 0.25} for row in rows
    ]
    np.testing.assert_array_equal(frame["image_sim"], [0.812345, np.nan, -0.000001])
    assert {name: str(frame[name].dtype) for name in NUMBERS if name in frame} == {
        name: kind for name, kind in NUMBERS.items() if name in frame
    }
    assert list(read_frame([]).dtypes) == list(frame.dtypes)


WHOLE = {
    **dict.fromkeys(PLAN_ROW, "word"),
    "n": "8",
    "template": 'A {cat}, "so"\nto say',
    "key": "0" * 64,
    "fit": "",
}
CHANGES = [
    {},
    {"concept": "a+b", "fit": f"{1:064d}+{2:064d}"},
    {"text": ""},
    {"prompt_id": "null"},
    {"method": ""},
    {"n": ""},
    {"n": "-1"},
    {"n": "1.0"},
    {"n": "1234567"},
    {"point": "../up"},
    {"concept": "a/b"},
    {"key": ".."},
    {"fit": "good+../bad"},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_plan_is_the_same_as_rows_and_as_a_frame(tmp_path, change):
    path = tmp_path / "plan.csv"
    text = planned_text([WHOLE, {**WHOLE, **change}])
    for some in (text, text[:-5], text.replace("kind", "sort"), text.partition("\n")[0], ""):
        path.write_text(some)
        rows, frame = read_plan_file(path), read_plan_frame(path)
        assert (rows is None) == (frame is None)
        if rows is not None and frame is not None:
            assert list(frame) == list(PLAN_ROW) and frame["n"].dtype == int
            assert frame.astype({"n": "str"}).to_dict("records") == rows
    assert read_plan_frame(tmp_path / "other.csv") is None
