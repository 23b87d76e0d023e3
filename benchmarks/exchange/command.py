"""The verbs of exchange: what other programs made comes in, what was made here goes out to them."""

import argparse
import sys

from benchmarks.verb import Run, verb


@verb("import")
def import_verb(parser: argparse.ArgumentParser) -> Run:
    """Pictures made elsewhere become a method of a run folder, and are scored.

    PICTURES is a folder CONCEPT/PROMPT_ID/INDEX.png, a .csv or .jsonl with path, concept, prompt,
    or dreambench++:DIR or multibanana:DIR as those benchmarks leave them. RUN is a run folder,
    whose concepts and prompts they are of, or a new one. The pictures given are never changed.

      perfbench import out --as theirs --out results/mine
      perfbench import pictures.csv --as theirs --out results/new --suite photos
      perfbench import dreambench++:samples/mine --as mine --out results/plus \\
          --suite dreambench++:data
    """
    parser.add_argument("pictures", metavar="PICTURES", help="a folder, a list, or LAYOUT:DIR")
    parser.add_argument(
        "--as", dest="name", default="", metavar="NAME",
        help="what the method is called; of rows of a list that name none",
    )  # fmt: skip
    parser.add_argument("--out", required=True, metavar="RUN", help="a run folder, or a new one")
    parser.add_argument(
        "--suite", default="", metavar="WHICH",
        help="of a new folder: photos, a folder, LAYOUT:DIR; default the miniature's",
    )  # fmt: skip
    parser.add_argument(
        "--backbone", default="", metavar="WHICH",
        help="of a new folder in which methods will be run as well; default none, and the "
        "miniature for its own suite",
    )  # fmt: skip
    parser.add_argument(
        "--scorers", default="", metavar="A,B",
        help="of a new folder: as in `perfbench measure`; default OpenAI's CLIP ViT-B/32, and the "
        "miniature's own for its suite",
    )  # fmt: skip
    parser.add_argument(
        "--preset", default="", metavar="NAME",
        help="of a new folder in which methods will be run as well: its number of images",
    )  # fmt: skip
    parser.add_argument("--link", action="store_true", help="hard links to PNGs, not copies")
    parser.add_argument(
        "--allow-missing", action="store_true", help="take what is whole; tables say n/planned"
    )
    parser.add_argument("--no-score", action="store_true", help="later, by `perfbench score RUN`")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:N")

    def act(args: argparse.Namespace) -> int:
        from benchmarks.exchange.importing import import_pictures

        done = import_pictures(
            args.pictures,
            args.name,
            args.out,
            suite=args.suite,
            backbone=args.backbone,
            scorers=[name for name in args.scorers.split(",") if name],
            preset=args.preset,
            link=args.link,
            allow_missing=args.allow_missing,
            score=not args.no_score,
            device=args.device,
            argv=sys.argv[1:],
        )
        print(done.table, end="\n" if done.table else "")
        return done.status

    return act
