"""The confirmatory run: `python -m benchmarks.evidence.confirm run`, then `judge`.

run     make the concepts of the next look, one after the other, by an ordinary `perfbench run`
        that is printed first; interrupted, the same command goes on
judge   say of every primary claim at every look that is whole: crossed, not yet, or the last look
        with its power; writes looks.csv and looks.md

The folder has plan.toml and plan.md, committed before the first fit. Whole concepts become rows of
whole.csv, and packed.tar.xz has their scores: these two, begun.json and run.json are committed as
the run goes on. A concept in which a training diverges becomes a row of aside.csv, and no claim has
it.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.advice import advised
from benchmarks.evidence.confirm_ledger import (
    ASIDE,
    WHOLE,
    add_whole,
    begin,
    frame_of,
    left_out,
    processors_of,
    read_begun,
    refuse_changed,
    refuse_half_made,
    set_aside,
    whole_concepts,
)
from benchmarks.evidence.confirm_plan import (
    PLAN,
    ConfirmPlan,
    read_confirm_plan,
    refuse_other_backbone,
    tuned_rates,
)
from benchmarks.miniature import command as drawn_suites
from benchmarks.paths import RESULTS, git_commit
from benchmarks.planning.config import Config
from benchmarks.running.flags import add_flags, config_of
from benchmarks.store.packing import pack_run
from benchmarks.store.run_folder import Store
from benchmarks.store.run_json import libraries, now
from benchmarks.suite.drift_kinds import PLAIN
from perfusion_core.errors import UserError

if TYPE_CHECKING:
    from benchmarks.running.prepared import Prepared

HOME = RESULTS / "confirm"
assert drawn_suites, "its import makes `world:66` known"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence.confirm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("do", choices=("run", "judge"), help="what to do, as listed above")
    parser.add_argument(
        "--folder",
        type=Path,
        default=HOME,
        metavar="DIR",
        help=f"folder of the plan and its run (default: {HOME})",
    )
    parser.add_argument(
        "--look", type=int, metavar="K", help="with run: up to this look (default: the next one)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="with run: print what would be done, and stop"
    )
    args = parser.parse_args()
    try:
        if args.do == "judge":
            print(judge(args.folder), end="")
            return
        sys.exit(run_look(args.folder, args.look, args.dry_run))
    except UserError as error:
        print(f"confirm: {advised(error)}", file=sys.stderr)
        sys.exit(2)


def run_look(folder: Path, look: int | None = None, dry_run: bool = False) -> int:
    """All concepts of one look that are not whole yet."""
    from benchmarks.running.prepared import prepare_run, scorer_names
    from benchmarks.running.run import run_prepared, show_plan

    plan = read_confirm_plan(folder / PLAN)
    rates_file = folder / plan.rates_file
    rates = tuned_rates(plan, rates_file)
    names = suite_of(plan, folder)
    aside = left_out(folder)
    first = names[: concepts_of(plan, folder, names, look)]
    wanted = [name for name in first if name not in aside]
    words = plan.command(rates, wanted, folder)
    print(shlex.join(["perfbench", *words]), file=sys.stderr)
    prepared = prepare_run(parsed(words))
    if dry_run:
        return show_plan(prepared)
    from benchmarks.running.drawing_costs import measuring_device  # loads torch

    refuse_other_backbone(plan, rates_file, prepared.models.digest)
    here = measuring_device(prepared.device)
    begin(folder, plan, rates, rates_file, names, here)
    store = Store(folder)
    refuse_half_made(
        store, prepared.plan, whole_concepts(folder), here, scorer_names(prepared.models)
    )
    status = run_prepared(
        prepared, words, whole=partial(record_whole, folder, prepared, names, here)
    )
    for name in set_aside(folder, store, prepared.plan, names):
        print(f"confirm: {name} is left out ({folder / ASIDE}): it diverged", file=sys.stderr)
    pack_whole(folder, keep=False)
    return status


def judge(folder: Path) -> str:
    """Every look that is whole, of concepts and rates that are those of the plan."""
    from benchmarks.evidence.confirm_page import judge_folder

    plan, begun = read_confirm_plan(folder / PLAN), read_begun(folder)
    if begun:
        rates = tuned_rates(plan, folder / plan.rates_file)
        refuse_changed(folder, frame_of(plan, rates, suite_of(plan, folder)), begun)
    return judge_folder(folder)


def suite_of(plan: ConfirmPlan, folder: Path) -> list[str]:
    """The concepts of the suite in its order: the first of every class, then the second ones."""
    from benchmarks.running.prepared import open_catalog

    names = [one.name for one in open_catalog(parsed(plan.command({}, ["all"], folder))).concepts]
    if len(names) < (most := plan.looks.concepts[-1]):
        raise UserError(
            f"{folder / PLAN}: the last look is at {most} concepts, and the suite has "
            f"{len(names)}; name a larger one"
        )
    return names[:most]


def concepts_of(
    plan: ConfirmPlan, folder: Path, names: Sequence[str], look: int | None = None
) -> int:
    """How many concepts the look has that was asked for, or the next one."""
    sizes = plan.looks.concepts
    if look is not None:
        if not 1 <= look <= len(sizes):
            raise UserError(f"--look {look}: the plan has looks 1 to {len(sizes)}")
        return sizes[look - 1]
    there = whole_concepts(folder) | left_out(folder)
    return next((n for n in sizes if not there.issuperset(names[:n])), sizes[-1])


def parsed(words: Sequence[str]) -> Config:
    """The words of `perfbench run`, read as it reads them."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return config_of(parser.parse_args(list(words[1:])))


def record_whole(
    folder: Path, prepared: "Prepared", names: Sequence[str], here: str, concept: str
) -> None:
    """A concept has all its scores: they go into the archive, and then it is a row of whole.csv."""
    if concept not in names or concept in whole_concepts(folder):
        return
    cells = [cell for cell in prepared.plan.drawn if cell.concepts == (concept,)]
    row = {
        "number": names.index(concept) + 1,
        "concept": concept,
        "finished": now(),
        "images": sum(len(cell.seeds) for cell in cells),
        "processor": processors_of(Store(folder), prepared.plan, concept, here),
        "dtype": prepared.models.dtype,
        "threads": prepared.config.threads,
        "workers": prepared.config.workers,
        "torch": libraries().get("torch", ""),
        "commit": git_commit() or "",
    }
    pack_whole(folder, concept, keep=True)
    add_whole(folder, row)
    print(f"confirm: {concept} is whole ({folder / WHOLE})", file=sys.stderr)


def pack_whole(folder: Path, *more: str, keep: bool) -> None:
    """The scores of whole concepts, and those that drift is measured from: the others may still be
    made on another machine.
    """
    pack_run(folder, keep, whole_concepts(folder) | {*more, PLAIN})


if __name__ == "__main__":
    main()
