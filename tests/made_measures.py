"""Measures in the rows of a made-up run (made_run.py): seeded values.

In: a run folder, its scorer. Out: rows files with measures, and what they say.
"""

import numpy as np

from benchmarks.scoring.measures import SCORED
from benchmarks.store.csv_files import read_rows_file
from benchmarks.store.run_folder import Store


def add_measures(run, scorer, gone=()):
    """Made-up values in the rows of a made-up run; -> (method, concept, prompt) -> name ->
    values.
    """
    store, rng, said = Store(run), np.random.default_rng(5), {}
    for method in ("super", "cd"):
        for concept in sorted(path.name for path in (run / "concepts").iterdir()):
            file = store.rows_file(scorer, method, "default", concept)
            rows = read_rows_file(file)
            assert rows
            for row in rows:
                place = method, concept, row["prompt_id"]
                row["variety"] = f"{rng.uniform(0.1, 0.4):.6f}"
                if row["kind"] == "shape" and concept not in gone:
                    row["image_sim_heldout"] = (
                        f"{float(row['image_sim']) - rng.uniform(0, 0.2):.6f}"
                    )
                    row["nearer"] = f"{rng.integers(2):.6f}"
                for name in SCORED:
                    if row.get(name):
                        said.setdefault(place, {}).setdefault(name, []).append(float(row[name]))
                if row["image_sim"]:
                    said[place].setdefault("image_sim", []).append(float(row["image_sim"]))
            store.write_rows(file, rows)
    return said
