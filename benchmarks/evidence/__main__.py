"""`python -m benchmarks.evidence` writes the tables of docs/claims.md and metrics.md; `... commands`: what to run;
`... look RUN`: what only its pictures tell."""

import argparse
import sys
from pathlib import Path

from benchmarks.evidence.commands import COMMANDS
from benchmarks.store import RESULTS, find_run
from perfusion_core.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=__doc__)
    parser.add_argument("do", nargs="?", choices=("pages", "commands", "look"), default="pages")
    parser.add_argument("run", nargs="?", metavar="RUN", help="of look: a run folder, or a name under results/")
    args = parser.parse_args()
    try:
        print(done(args.do, args.run))
    except UserError as error:
        print(f"evidence: {error}", file=sys.stderr)
        sys.exit(2)


def done(do: str, run: str | None) -> str:
    if do == "commands":
        return "\n".join(command for commands in COMMANDS.values() for command in commands)
    if do == "look":
        from benchmarks.evidence.looks import write
        from benchmarks.miniature.judges import open_judges
        from benchmarks.paths import miniature_dir

        return write(find_run(run), open_judges(miniature_dir())).to_string(index=False)
    from benchmarks.evidence.page import write as write_pages

    return write_pages(Path("docs"), RESULTS)


if __name__ == "__main__":
    main()
