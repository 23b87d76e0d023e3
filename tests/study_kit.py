"""A run folder for the tests of the study kit, with real PNGs; and raters with known preferences.

In: a folder, how large it should be. Out: the files that a run leaves; files of answers.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from made_run import picture, samples
from PIL import PngImagePlugin

from benchmarks.store import run_folder
from benchmarks.store.csv_files import ROW, planned_text
from benchmarks.study.answers import Key, read_key

METHODS = {
    "perfusion": ("local-b0.60-t0.15", "global-b0.50-t0.15"),
    "cd": ("default",),
    "db": ("default",),
    "super": ("default",),
}
SCORER = "toy-0123abcd"


@cache
def png(concept: str, scene: str, fade: float, wobble: int, size: int, note: str) -> bytes:
    import io

    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", note)
    out = io.BytesIO()
    picture(concept, scene, fade, wobble, size).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def make_run(
    root: Path,
    concepts: Sequence[str] = ("cat", "teapot"),
    prompts: int = 3,
    images: int = 2,
    size: int = 32,
) -> Path:
    """A run of four methods on some concepts and prompts of each kind."""
    frame = samples(METHODS, list(concepts), prompts=prompts, images=images)
    templates = {
        row["id"]: row["template"]
        for row in csv.DictReader((Path(__file__).parent.parent / "prompts/prompts.csv").open())
    }
    frame["key"] = [
        hashlib.sha256("|".join(cell).encode()).hexdigest()
        for cell in zip(*(frame[c] for c in ("method", "point", "concept", "prompt_id")))
    ]
    cells = frame.drop_duplicates("key")
    plan = cells.assign(
        n=images,
        fit="",
        template=[
            templates[p].replace("{}", f"{{{c}}}")
            for p, c in zip(cells["prompt_id"], cells["concept"])
        ],
        text="",
        super_category=[concept.split("_")[-1] for concept in cells["concept"]],
    )
    root.mkdir(parents=True)
    (root / "run.json").write_text(
        json.dumps({"schema": 2, "scorers": [{"name": SCORER}], "started": "2023-07-15T00:00:00"})
    )
    (root / "plan.csv").write_text(planned_text(plan.to_dict("records")))
    write_rows(root, frame)
    fades = {"perfusion": 0.1, "cd": 0.3, "db": 0.5, "super": 0.8}
    for row in cells.itertuples():
        folder = run_folder.cell_folder(root, row.method, row.point, row.concept, row.prompt_id)
        folder.mkdir(parents=True)
        other = row.concept if row.method != "super" else row.concept + "-other"
        files = {
            f"{i}.png": png(
                other,
                row.prompt_id,
                fades[row.method],
                i + len(row.point),
                size,
                f"{row.method} {row.prompt_id}",
            )
            for i in range(images)
        }
        for name, data in files.items():
            (folder / name).write_bytes(data)
        manifest = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in files.items()
        }
        (folder / "cell.json").write_text(json.dumps({"key": row.key, "files": manifest}))
    for concept in concepts:
        folder = run_folder.concept_folder(root, concept)
        folder.mkdir(parents=True)
        for number in range(4):
            (folder / f"{number}.png").write_bytes(
                png(concept, f"photo {number}", 0.0, number, size, "photo")
            )
    return root


def write_rows(root: Path, frame: pd.DataFrame) -> None:
    records = frame.round(6).astype(object).where(frame.notna(), "")
    for (method, point, concept), rows in records.groupby(["method", "point", "concept"]):
        run_folder.Store(root).write_rows(
            run_folder.Store(root).rows_file(SCORER, method, point, concept),
            rows[list(ROW)].to_dict("records"),
        )


# ---- raters ----

# (task, randomness) -> numbers in the order of its choices
Judge = Callable[[dict, np.random.Generator], list[int]]


def rater_id(number: int) -> str:
    return hashlib.sha256(f"rater {number}".encode()).hexdigest()[:32]


def answer_file(
    key: Key,
    session: int,
    rater: str,
    judge: Judge,
    seed: int = 0,
    known: bool = True,
    steady: bool = True,
) -> dict:
    """What the page would hand in: known answers right (or wrong), repeats as the first time (or
    judged anew).
    """
    random = np.random.default_rng([seed, session, int(rater[:8], 16)])
    trials = key.sessions[session - 1]["trials"]
    given: dict[int, list[int]] = {}
    answers = []
    for position, trial in enumerate(trials):
        n = len(trial["order"])
        if trial["role"] == "qualify":
            mine = ([3, 2, 1] if known else [1, 2, 3])[:n]
        elif trial["role"] == "repeat" and steady:
            mine = given[trial["first"]]
        else:
            mine = judge(key.task(trial), random)
        given[position] = mine
        answers.append({"trial": trial["id"], "ranks": [mine[choice] for choice in trial["order"]]})
    return {
        "schema": "perfbench-study-answers/1",
        "study": key.study,
        "rater": rater,
        "session": session,
        "ticket": key.ticket(session, rater),
        "answers": answers,
    }


def write_answers(
    folder: Path, judge: Judge, seed: int = 0, raters: int | None = None, **how: bool
) -> Key:
    """One file a session; session s is done by rater s, or by one of `raters` in turn."""
    key = read_key(folder)
    for session in range(1, len(key.sessions) + 1):
        who = rater_id(session if raters is None else (session - 1) % raters)
        (key.answers / f"{session:03d}-{who}.json").write_text(
            json.dumps(answer_file(key, session, who, judge, seed, **how))
        )
    return key
