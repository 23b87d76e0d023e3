"""What this repository claims, from its committed results (`python -m benchmarks.evidence`).

pages (default)  write the tables of README.md, docs/claims.md and docs/metrics.md, and
                 results/README.md
commands         print what to run, in order
look RUN         measure what only the run's pictures tell
take RUN DIR     copy the run's trained files of Perfusion, to be kept
pack RUN         put plan, cells and rows of the run into one small file, to be committed
coverage RUN     say how often intervals hold the truth where effects are as skewed as the run's
"""

import argparse
import shutil
import sys
from pathlib import Path

from benchmarks.advice import advised
from benchmarks.evidence.commands import COMMANDS
from benchmarks.evidence.committed import to_commit
from benchmarks.paths import FIRST_WORLD, RESULTS
from benchmarks.planning.methods import said
from benchmarks.store.packing import pack_run
from benchmarks.store.reading import find_run, planned_fits
from benchmarks.store.run_folder import fit_folder
from perfusion_core.errors import UserError

JUDGED = FIRST_WORLD  # the runs that the pages rest on; RESULTS once they are made again


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "do",
        nargs="?",
        choices=("pages", "commands", "look", "take", "pack", "coverage"),
        default="pages",
        help="what to do, as listed above",
    )
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="run folder, or a name under results/"
    )
    parser.add_argument(
        "out", nargs="?", type=Path, metavar="DIR", help="with take: folder for the files"
    )
    args = parser.parse_args()
    try:
        print(done(args.do, args.run, args.out))
    except UserError as error:
        print(f"evidence: {advised(error)}", file=sys.stderr)
        sys.exit(2)


def done(do: str, run: str | None, out: Path | None = None) -> str:
    if do == "commands":
        return "\n".join(command for commands in COMMANDS.values() for command in commands)
    if do == "look":
        from benchmarks.evidence.judged import write_judged
        from benchmarks.miniature.training.judges import open_judges
        from benchmarks.paths import miniature_dir

        return write_judged(find_run(run), open_judges(miniature_dir())).to_string(index=False)
    if do == "coverage":
        from benchmarks.evidence.coverage import coverage
        from benchmarks.tables.run_view import open_run
        from benchmarks.tables.views import text_of

        return text_of(coverage(open_run(run)))
    if do == "pack":
        archive = pack_run(find_run(run))
        return f"{archive}: {archive.stat().st_size:,} bytes{to_commit(archive.parent)}"
    if do == "take":
        if out is None:
            raise UserError(
                "take needs a run and a folder; write take results/eleven "
                "results/miniature-concepts"
            )
        return "\n".join(map(str, take(find_run(run), out)))
    from benchmarks.evidence.claims_page import write_pages as write_pages

    return write_pages(Path("docs"), RESULTS, JUDGED)


def take(run: Path, out: Path) -> list[Path]:
    """Perfusion's files of a run, named as their concepts are: a place for `perfbench run
    --trained`.
    """
    file = said("perfusion").one_file
    fits = {
        concept: about["key"]
        for method, concept, about in planned_fits(run)
        if method == "perfusion"
    }
    if not fits:
        raise UserError(f"{run} has no trained files of perfusion")
    out.mkdir(parents=True, exist_ok=True)
    found = {name: fit_folder(run, "perfusion", name, key) / file for name, key in fits.items()}
    return [shutil.copyfile(path, out / f"{name}.safetensors") for name, path in found.items()]


if __name__ == "__main__":
    main()
