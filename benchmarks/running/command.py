"""`perfbench run`, `plan`, `score`, `ls`, `gpu-day`: what is asked for becomes a filled folder."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.options import add_calls, add_device, add_dtype, add_log, add_stops, number, whole
from benchmarks.verb import Run, verb
from perfusion_core.errors import UserError


@verb("run")
def run_benchmark(parser: argparse.ArgumentParser) -> Run:
    """Train, generate and score what is missing, then write and print the tables.

    If it is interrupted, give the same command again: it goes on from there. More methods, concepts
    or prompts extend the run folder.

      perfbench run --methods perfusion,super --concepts cat,teapot --preset quick
      perfbench run --methods perfusion,cd --concepts all --engine processes
      perfbench run --preset paper --backbone owner/name --out results/mine --set images=4
      perfbench run --methods perfusion --trained perfusion=results/mine --backbone tuned
    """
    from benchmarks.running.flags import add_flags, config_of

    add_flags(parser)
    add_stops(parser)
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="write tables of an unfinished run; they say n/planned",
    )
    parser.add_argument(
        "--max-failures", type=whole(1), default=0, metavar="N", help="stop after N failed units"
    )
    add_log(parser)

    def act(args: argparse.Namespace) -> int:
        config = config_of(args)
        refuse_idle_limit("--judge-limit", args.judge_limit, config.scorers)
        from benchmarks.running.driver import Stops
        from benchmarks.running.run import run

        return run(
            config,
            sys.argv[1:],
            dry_run=args.dry_run,
            allow_missing=args.allow_missing,
            stops=Stops(args.limit, args.max_failures, args.yes, args.judge_limit),
            log=args.log,
        )

    return act


@verb("plan")
def plan(parser: argparse.ArgumentParser) -> Run:
    """Print what a run would do: fits, cells, images, how much is done, the time that is left.

    perfbench plan --methods perfusion,cd --concepts all
    perfbench plan --preset paper --json
    """
    from benchmarks.running.flags import add_flags, config_of

    add_flags(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")

    def act(args: argparse.Namespace) -> int:
        config = config_of(args)
        from benchmarks.running.run import plan

        return plan(config, as_json=args.json)

    return act


@verb("doctor")
def doctor(parser: argparse.ArgumentParser) -> Run:
    """Check whether this machine is ready: versions, device, disks, the hub, one tiny picture.

    The exit status is 1 if something has to be mended.

      perfbench doctor && perfbench run --preset quick
    """

    def act(args: argparse.Namespace) -> int:
        from benchmarks.running.doctor import doctor

        return doctor()

    return act


@verb("score")
def score(parser: argparse.ArgumentParser) -> Run:
    """Score the images of a run again, or by more scorers, and write the tables.

    Needs no backbone. Scores that people or services gave come in by --from.

      perfbench score results/paper-miniature-0a1b2c3d --again
      perfbench score --scorers dino
      perfbench score results/mine --scorers judge:http://localhost:8000/v1#MODEL --limit 500
      perfbench score results/mine --from ratings.csv --scorer raters --scale 1:5
    """
    parser.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="a run folder, or a name under results/ (default: the newest run)",
    )
    parser.add_argument(
        "--scorers",
        metavar="A,B",
        default="",
        help="further scorers: truth, modern, a folder, clip:MODEL:TAG, dino, "
        "timm:MODEL, judge:URL#MODEL (default: the run's own)",
    )
    add_calls(parser)
    parser.add_argument("--again", action="store_true", help="score again what has scores already")
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="compute all features anew, and keep none in the cache",
    )
    parser.add_argument(
        "--measures",
        action="store_true",
        help="also complete rows that lack measures beyond the protocol",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="write tables of an unfinished run; they say n/planned",
    )
    add_device(parser)
    parser.add_argument(
        "--subject",
        nargs="?",
        default="",
        const="CIDAS/clipseg-rd64-refined",
        metavar="CLIPSEG",
        help="also measure the subject alone, cut out by CLIPSeg (a hub id or a folder)",
    )
    parser.add_argument(
        "--from",
        dest="ratings",
        metavar="FILE",
        help="CSV of scores that people or services gave (docs/judging.md)",
    )
    parser.add_argument(
        "--scorer", metavar="NAME", help="with --from: name for who gave the scores"
    )
    parser.add_argument(
        "--scale",
        metavar="LOW:HIGH",
        help="with --from: lowest and highest possible score (default: 0:1)",
    )

    def act(args: argparse.Namespace) -> int:
        if args.ratings is not None:
            asked = ("scorers", "again", "measures", "limit", "no_cache", "subject")
            refuse_with(args, "--from", asked)
            if args.scorer is None:
                raise UserError("--from needs the name of who gave the scores: --scorer NAME")
            from benchmarks.running.rated_run import take_ratings

            scale = args.scale or "0:1"
            return take_ratings(args.run, args.ratings, args.scorer, scale, args.allow_missing)
        for name in ("scorer", "scale"):
            if getattr(args, name) is not None:
                raise UserError(f"--{name} goes with --from FILE; models are named by --scorers")
        from benchmarks.running.rescore import rescore

        more = [name for name in args.scorers.split(",") if name]
        refuse_idle_limit("--limit", args.limit, more)
        return rescore(
            args.run,
            more,
            again=args.again,
            device=args.device,
            allow_missing=args.allow_missing,
            limit=args.limit,
            cache="none" if args.no_cache else "usual",
            measures=args.measures,
            subject=args.subject,
        )

    return act


def refuse_idle_limit(flag: str, limit: int, scorers: Sequence[str]) -> None:
    """A limit of calls where nobody is called is a mistake."""
    from benchmarks.scoring.lookup import is_judge

    if limit and not any(map(is_judge, scorers)):
        raise UserError(
            f"{flag} counts calls of judges, and none is named: --scorers judge:URL#MODEL names one"
        )


def refuse_with(args: argparse.Namespace, flag: str, others: Sequence[str]) -> None:
    """Flags that mean nothing beside another one."""
    if given := [f"--{name.replace('_', '-')}" for name in others if getattr(args, name)]:
        raise UserError(f"{flag} asks no model, so {given[0]} means nothing with it: leave one out")


@verb("measure")
def measure(parser: argparse.ArgumentParser) -> Run:
    """Measure pictures by any tool: no run, no suite, no backbone.

    Prints image similarity to references of the thing, that of the references among themselves, and
    similarity to the prompt. The default scorer, OpenAI's CLIP ViT-B/32, is fetched once (0.6 GB).

      perfbench measure out/*.png --references photos --prompt "A {} on the beach" \\
          --super-category teapot
      perfbench measure out --references photos --scorers dino,dinov2 --json
      perfbench measure out --prompts prompts.txt --scorers miniature
    """
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="picture files or folders")
    parser.add_argument(
        "--references", metavar="DIR", help="pictures of the thing that the others shall show"
    )
    parser.add_argument(
        "--prompt", metavar="TEXT", help="prompt of all pictures, with {} in place of the thing"
    )
    parser.add_argument(
        "--prompts", metavar="FILE", help="file with one prompt a line, in the pictures' order"
    )
    parser.add_argument(
        "--super-category", default="", metavar="WORD", help="the kind of thing, one word: teapot"
    )
    parser.add_argument(
        "--scorers",
        default="",
        metavar="A,B",
        help="miniature, modern, clip:MODEL:TAG, dino, timm:MODEL, judge:URL#MODEL "
        "or a folder (default: OpenAI's CLIP ViT-B/32)",
    )
    add_calls(parser)
    add_device(parser)
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="take and keep nothing that scorers made of these pictures",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, with one row a picture as well"
    )

    def act(args: argparse.Namespace) -> None:
        from benchmarks.running.measure import measure_verb

        scorers = [name for name in args.scorers.split(",") if name]
        refuse_idle_limit("--limit", args.limit, scorers)
        wanted = (args.prompt, args.prompts, args.super_category, scorers, args.device, args.json)
        told = measure_verb(args.pictures, args.references, *wanted, args.limit, not args.no_cache)
        print(told, end="")

    return act


@verb("ls")
def ls(parser: argparse.ArgumentParser) -> Run:
    """List methods, concepts, prompts, suites, backbones, presets or runs.

    perfbench ls methods --cite > methods.bib
    perfbench ls prompts --concept cat
    perfbench ls concepts --suite dreambench:DIR --json
    """
    parser.add_argument(
        "kind", help="what to list: methods, concepts, prompts, suites, backbones, presets or runs"
    )
    parser.add_argument(
        "--concept", metavar="NAME", help="with prompts: only those of this concept"
    )
    parser.add_argument(
        "--suite",
        default="miniature",
        help="with concepts and prompts: miniature (default), photos, a folder of "
        "concepts, or LAYOUT:DIR",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--cite", action="store_true", help="with methods: print what to cite for them, as BibTeX"
    )
    parser.add_argument(
        "--method-file",
        metavar="FILE",
        dest="method_files",
        help="with methods: file of a method of your own (docs/methods.md)",
    )

    def act(args: argparse.Namespace) -> None:
        from benchmarks.running.listing import show_list

        show_list(args)

    return act


@verb("gpu-day")
def gpu_day(parser: argparse.ArgumentParser) -> Run:
    """Spend a day on a GPU: photographs, masks, C, two runs, speed and memory, in one archive.

    It first says what it would do and download. Every stage is a command of its own, with its log
    in OUT/logs. If it is interrupted, give the same command again. With more --hours it goes on
    with the protocol.

      perfbench gpu-day --backbone sd15 --hours 8 --out day --dry-run
      perfbench gpu-day --backbone sd15 --hours 8 --out day
      perfbench gpu-day --backbone sd15 --hours 8 --out day --photos my_photos --captions coco.txt
    """
    parser.add_argument(
        "--backbone",
        required=True,
        metavar="WHICH",
        help="sd15, sd21, sdxl, a folder in diffusers layout, a .safetensors file or a hub id",
    )
    parser.add_argument(
        "--hours",
        required=True,
        type=number(0.1, 1000),
        metavar="H",
        help="hours of this machine to use, all calls together",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for runs, logs and the archive"
    )
    parser.add_argument(
        "--photos",
        default="",
        metavar="DIR",
        help="folder with your own DIR/CONCEPT for each concept (default: fetch the photographs)",
    )
    parser.add_argument(
        "--captions",
        default="",
        metavar="FILE",
        help="captions to estimate C from (default: streamed from the hub)",
    )
    parser.add_argument(
        "--methods", default="", metavar="A,B", help="methods to run (default: all of the protocol)"
    )
    add_device(parser)
    add_dtype(parser)
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        dest="sets",
        action="append",
        default=[],
        help="any key of the configuration of both runs, as in `perfbench run`; "
        "without a network give clipseg=DIR, scorers=DIR and select_scorer=DIR",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be done and downloaded, and stop"
    )

    def act(args: argparse.Namespace) -> int:
        from benchmarks.running.day_cost import USUAL_CAPTIONS
        from benchmarks.running.day_stages import Asked
        from benchmarks.running.gpu_day import gpu_day

        asked = Asked(
            root=Path(args.out),
            backbone=args.backbone,
            hours=args.hours,
            methods=tuple(filter(None, args.methods.split(","))),
            photos=args.photos,
            captions=args.captions or USUAL_CAPTIONS,
            device=args.device,
            dtype=args.dtype,
            sets=tuple(args.sets),
        )
        return gpu_day(asked, args.dry_run)

    return act
