"""Runs for tests of the explorer: small ones with pictures, and one of 60,000 cells.

In: a folder. Out: run folders in the real formats.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from made_run import GLOBAL, LOCAL, make_run, picture
from PIL import Image

from benchmarks.store.run_folder import heldout_folder
from benchmarks.store.run_json import SCHEMA
from benchmarks.tables.derived import NEEDED

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
METHODS = {"perfusion": LOCAL[::3] + GLOBAL[::4], "cd": ("default",), "db": ("default",)}


def two_runs(folder: Path) -> tuple[Path, Path]:
    """Two runs of the same protocol with pictures; one prompt of the first tries to be a script,
    one of its concepts has held-out pictures."""
    one, two = folder / "one", folder / "two"
    make_run(one, METHODS, ["cat", "teapot"], prompts=3, images=2)
    make_run(two, {"cd": ("default",)}, ["cat", "teapot"], prompts=3, images=2, seed=1)
    plan = (one / "plan.csv").read_text()
    plan = plan.replace("A {cat} in the snow", f"A {{cat}} in the snow {EVIL}")
    (one / "plan.csv").write_text(plan)
    place = heldout_folder(one, "cat")
    place.mkdir(parents=True)
    for number in range(3):
        picture("cat", f"away{number}", 0, number).save(place / f"{number}.png")
    return one, two


def large_run(folder: Path, pictures: bool, points: int = 20) -> Path:
    """A run of 20 points, 30 concepts and 100 prompts: 60,000 cells. Their pictures, one a cell,
    are those of one concept under many names."""
    make_run(folder, {"cd": ("default",)}, ["cat"], prompts=1, images=1, pictures=False)
    about = json.loads((folder / "run.json").read_text())
    assert about["schema"] == SCHEMA
    methods = [f"method{number:02d}" for number in range(points - 1)] + ["super"]
    names = [f"thing{number:02d}" for number in range(30)]
    ids = [f"p{number:03d}" for number in range(100)]
    cell = pd.MultiIndex.from_product(
        [methods, ["default"], names, ids], names=["method", "point", "concept", "prompt_id"]
    ).to_frame(index=False)
    cell = cell.assign(group="animated", kind="shape")
    text = "A {" + cell["concept"] + "} in place number " + cell["prompt_id"]
    key = [f"{number:064x}" for number in range(len(cell))]
    plan = cell.assign(n=1, key=key, fit="", template=text, text=text)
    plan = plan.reindex(columns=[*pd.read_csv(folder / "plan.csv").columns], fill_value="")
    plan.to_csv(folder / "plan.csv", index=False, lineterminator="\n")
    random = np.random.default_rng(0)
    rows = []
    for metric, level in (("image_sim", 0.7), ("text_sim_raw", 0.25)):
        value = random.normal(level, 0.03, len(cell)).round(6)
        rows.append(cell.assign(metric=metric, n=1, mean=value, sd=np.nan, even=value, odd=np.nan))
    cells = pd.concat(rows)[list(NEEDED["cells"])]
    cells.to_csv(folder / "cells.csv", index=False, lineterminator="\n")
    old = pd.read_csv(folder / "table.csv", keep_default_na=False)
    table = pd.concat([old[old["method"] == "cd"].assign(method=name) for name in methods])
    table.loc[table["method"] == "super", "kind"] = "floor"
    table.to_csv(folder / "table.csv", index=False, lineterminator="\n")
    if not pictures:
        return folder
    first = folder / "one-concept"
    for prompt in ids:
        (first / prompt).mkdir(parents=True)
        Image.new("RGB", (64, 64), "teal").save(first / prompt / "0.png")
    for method in methods:
        point = folder / "images" / method / "default"
        point.mkdir(parents=True)
        for name in names:
            (point / name).symlink_to(first)
    return folder
