"""The trial of names: `python -m benchmarks.evidence.names_trial OUT`.

In: finished weights. Out: in OUT the two arms' weights, a row a judged picture (names.csv,
unused.csv), a run of new concepts on each arm (run-named, run-plain), concepts.csv and trial.json,
whose clauses are printed. Two hours on two cores; killed, the same command goes on.

    words     pictures of instances that have a name, rows of new words
    arms      two U-Nets beside each other, one core each: with names, and without
    judged    names and unused words drawn, seen by the judges
    concepts  Textual Inversion and Perfusion on six concepts that no arm saw
    verdict   names_rule.py
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import CLIPTokenizer

from benchmarks.advice import advised
from benchmarks.disk import read_json, write_whole
from benchmarks.evidence.confirm import parsed
from benchmarks.evidence.names_pictures import Sizes, name_rows, unused_rows
from benchmarks.evidence.names_rule import METHODS, Verdict, decided
from benchmarks.evidence.validity import truth_of
from benchmarks.miniature.opening import opened
from benchmarks.miniature.training.hyperparameters import Recipe
from benchmarks.miniature.training.judges import open_judges
from benchmarks.miniature.training.names import NAMED, PLAIN, Names
from benchmarks.miniature.training.naming import ARMS, EYES, RECIPE, closeness, prepare, train_arm
from benchmarks.miniature.training.onwards import are_weights
from benchmarks.miniature.training.structure import text_encoder
from benchmarks.miniature.training.training_data import CAPTIONS
from benchmarks.miniature.training.workshop import Workshop
from benchmarks.paths import git_commit, miniature_dir
from benchmarks.running.prepared import prepare_run
from benchmarks.running.run import run_prepared
from benchmarks.tables.build import tables_of
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import backbone_digest

RECORD, TABLES = "trial.json", ("names", "unused", "concepts")
# 200 steps are what tuning chose for Perfusion; the first ten shape-preserving prompts
RUN = (
    "--suite", "world-tuning:6", "--concepts", "all", "--methods", ",".join(METHODS),
    "--prompts", ",".join(f"s{k:02d}" for k in range(1, 11)), "--set", "images=2",
    "--set", "points.perfusion=local-b0.60-t0.15", "--set", "fit.perfusion.steps=200",
    "--scorers", "auto,truth", "--no-drift",
    "--engine", "processes", "--workers", "2", "--threads", "1",
)  # fmt: skip
OLD = 1000  # captions whose encodings are compared


@dataclass(frozen=True)
class Trial:
    """Everything that decides its numbers, but the weights."""

    minutes: float = 45.0  # of one core's time, for each arm
    words: float = 5.0  # minutes of both cores, for the rows of the new words
    names: Names = field(default_factory=Names)
    sizes: Sizes = field(default_factory=Sizes)
    recipe: Recipe = RECIPE
    run: tuple[str, ...] = RUN


@dataclass(frozen=True)
class Place:
    """Where a trial lies."""

    out: Path
    work: Path  # pictures, words and latents, which a build may share
    start: Path

    @property
    def own(self) -> Path:
        """Checkpoints, and pictures of instances that have a name."""
        return self.out / "own"

    def arm(self, name: str) -> Path:
        return self.out / name

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Seconds of all calls together, in the record."""
        begun = time.monotonic()
        try:
            yield
        finally:
            record = read_json(self.out / RECORD) or {}
            spent = record.get("seconds", {})
            spent[part] = round(spent.get(part, 0) + time.monotonic() - begun)
            self.note(seconds=spent)

    def note(self, **more: Any) -> None:
        record = {**(read_json(self.out / RECORD) or {}), **more}
        write_whole(self.out / RECORD, json.dumps(record, indent=1) + "\n")


def run_trial(place: Place, trial: Trial, arms: Sequence[str] = ARMS) -> Verdict | None:
    """What is missing of the trial; None where only some arms were asked for."""
    begin(place, trial)
    with place.timed("words"):
        prepare(place.work, place.own, place.start, trial.names, trial.words, trial.recipe)
    with place.timed("arms"):
        train_arms(place, trial, arms)
    if set(arms) != set(ARMS):
        return None
    with place.timed("judged"):
        judge(place, trial)
    with place.timed("concepts"):
        rows = true_identities(place, trial)
        rows.to_csv(place.out / "concepts.csv", index=False)
    tables = {name: pd.read_csv(place.out / f"{name}.csv") for name in TABLES}
    verdict = decided(**tables, closest=(read_json(place.out / RECORD) or {})["closest"])
    clauses = [asdict(clause) for clause in verdict.clauses]
    place.note(kept=verdict.kept, of_use=verdict.of_use, clauses=clauses, means=means(tables))
    return verdict


def begin(place: Place, trial: Trial) -> None:
    """Write down what is decided; another trial's folder is refused."""
    if not are_weights(place.start):
        raise UserError(f"{place.start} holds no weights; give a folder that has build.json")
    for part in (EYES, "judges"):
        if not (place.start / part).is_dir():
            raise UserError(f"{place.start} has no {part}; build the weights with all their stages")
    asked = {**asdict(trial), "start": backbone_digest(place.start)}
    asked = json.loads(json.dumps(asked))
    old = (read_json(place.out / RECORD) or {}).get("asked")
    if old is not None and old != asked:
        what = ", ".join(key for key in asked if old.get(key) != asked[key])
        raise UserError(f"{place.out} has a trial with another {what}; name another folder")
    if old is None:
        place.out.mkdir(parents=True, exist_ok=True)
        place.note(asked=asked, commit=git_commit(), arms={}, seconds={})


def train_arms(place: Place, trial: Trial, arms: Sequence[str]) -> None:
    """One process and one core each, beside each other."""
    missing = [arm for arm in arms if not are_weights(place.arm(arm))]
    own, decide = (place.work, place.own, place.start), (trial.names, trial.minutes, trial.recipe)
    with ProcessPoolExecutor(len(ARMS), mp_context=get_context("spawn")) as processes:
        for done in [
            processes.submit(train_arm, arm, place.arm(arm), *own, *decide) for arm in missing
        ]:
            done.result()
    told = {arm: json.loads((place.arm(arm) / "build.json").read_text())["names"] for arm in arms}
    place.note(arms={**(read_json(place.out / RECORD) or {})["arms"], **told})


def judge(place: Place, trial: Trial) -> None:
    """names.csv, unused.csv, and how close old captions' encodings stayed."""
    judges = open_judges(place.start)
    named, plain = (opened(place.arm(arm), "cpu", "auto") for arm in (NAMED, PLAIN))
    drawing: dict[str, Callable[[], pd.DataFrame]] = {
        "names": lambda: name_rows(named, judges, trial.names, trial.sizes),
        "unused": lambda: unused_rows(named, plain, judges, trial.names, trial.sizes),
    }
    for name, draw in drawing.items():
        path = place.out / f"{name}.csv"
        if not path.is_file():
            write_whole(path, draw().to_csv(index=False))
    if "closest" not in (read_json(place.out / RECORD) or {}):
        shop = Workshop(place.work, trial.recipe)
        ids, captions = shop.ids[:OLD, 0].long(), shop.pictures.texts[::CAPTIONS][:OLD]
        tokenizer = CLIPTokenizer.from_pretrained(place.arm(NAMED) / "tokenizer")
        after = tokenizer(
            captions,
            padding="max_length",
            truncation=True,
            max_length=ids.shape[1],
            return_tensors="pt",
        ).input_ids
        texts = text_encoder(place.start), text_encoder(place.arm(NAMED))
        place.note(closest=closeness(*texts, ids, after))


def true_identities(place: Place, trial: Trial) -> pd.DataFrame:
    """A row a concept and method: its true identity on both arms."""
    found = {}
    for arm in ARMS:
        folder = place.out / f"run-{arm}"
        words = ["run", *trial.run, "--backbone", str(place.arm(arm)), "--out", str(folder)]
        print(shlex.join(["perfbench", *words]), file=sys.stderr)
        if run_prepared(prepare_run(parsed(words)), words):
            raise UserError(f"{folder} is not whole; give the same command again to go on")
        metrics = tables_of(folder).metrics
        metrics = metrics[metrics["method"].isin(METHODS)]
        truth = metrics[truth_of(metrics.columns, "image_sim")]
        found[arm] = truth.set_axis(pd.MultiIndex.from_frame(metrics[["concept", "method"]]))
    return pd.DataFrame(found).reset_index()


def means(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """What stands behind the differences."""
    columns = {"names": ["own", "other"], "unused": ["alike", "right"]}
    of = {name: tables[name].groupby("kind")[wanted].mean() for name, wanted in columns.items()}
    of["concepts"] = tables["concepts"].groupby("method")[list(ARMS)].mean()
    return {name: frame.round(4).to_dict("index") for name, frame in of.items()}


def told(verdict: Verdict) -> str:
    lines = ["| clause | wanted | measured | holds |", "|---|---|---|---|"]
    lines += [
        f"| {c.what} | {c.wanted} | {c.value:.3f} ({c.lo:.3f} to {c.hi:.3f}) | "
        f"{'yes' if c.holds else 'no'} |"
        for c in verdict.clauses
    ]
    use = " and ".join(verdict.of_use) or "no method"
    said = f"Names are {'kept' if verdict.kept else 'not kept'}; they help {use}."
    return "\n".join([*lines, "", said])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence.names_trial",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    usual = Trial()
    parser.add_argument("out", type=Path, help="folder of the trial")
    parser.add_argument(
        "--start", type=Path, default=miniature_dir(), metavar="DIR",
        help="folder of finished weights to go on from (default: the shipped ones)",
    )  # fmt: skip
    parser.add_argument(
        "--work", type=Path, metavar="DIR",
        help="folder for pictures, words and latents; a build's own has them (default: OUT/work)",
    )  # fmt: skip
    parser.add_argument(
        "--arms", default=",".join(ARMS), metavar="A,B",
        help=f"arms to train, of {','.join(ARMS)}; judged once both are there (default: both)",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, default=usual.minutes, metavar="N",
        help=f"minutes of one core's time for each arm (default: {usual.minutes:g})",
    )  # fmt: skip
    parser.add_argument(
        "--words", type=float, default=usual.words, metavar="N",
        help=f"minutes for the rows of the new words (default: {usual.words:g})",
    )  # fmt: skip
    args = parser.parse_args()
    try:
        arms = args.arms.split(",")
        if not set(arms) <= set(ARMS):
            raise UserError(f"--arms {args.arms}: there are {' and '.join(ARMS)}")
        if min(args.minutes, args.words) <= 0:
            raise UserError("--minutes and --words are above 0: training takes time")
        place = Place(args.out, args.work or args.out / "work", args.start)
        verdict = run_trial(place, Trial(args.minutes, args.words), arms)
    except UserError as error:
        print(f"names_trial: {advised(error)}", file=sys.stderr)
        sys.exit(2)
    print(told(verdict) if verdict else f"trained: {', '.join(arms)}")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
