"""`python -m benchmarks.evidence` writes the tables of docs/claims.md and metrics.md; `... commands`: what to run;
`... look RUN`: what only its pictures tell."""

import argparse
from pathlib import Path

from benchmarks.evidence.commands import COMMANDS
from benchmarks.store import RESULTS, find_run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=__doc__)
    parser.add_argument("do", nargs="?", choices=("pages", "commands", "look"), default="pages")
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run folder, or a name under results/")
    args = parser.parse_args()
    if args.do == "commands":
        print("\n".join(command for commands in COMMANDS.values() for command in commands))
    elif args.do == "look":
        from benchmarks.evidence.looks import write
        from benchmarks.miniature.judges import open_judges
        from benchmarks.paths import miniature_dir

        print(write(find_run(args.run), open_judges(miniature_dir())).to_string(index=False))
    else:
        from benchmarks.evidence.page import write as write_pages

        print(write_pages(Path("docs"), RESULTS))


if __name__ == "__main__":
    main()
