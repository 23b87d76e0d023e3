"""The verbs of exchange: what other programs made comes in, what was made here goes out to them."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.options import DDIM_STEPS, GUIDANCE, add_device, add_dtype, add_stops, number, whole
from benchmarks.verb import Around, Run, around, verb
from perfusion_core.errors import UserError

USUAL_PRESET = "quick"  # of `evaluate`


@verb("import")
def import_verb(parser: argparse.ArgumentParser) -> Run:
    """Take pictures made elsewhere into a run folder as a method, and score them.

    PICTURES is one of these:
      a folder with CONCEPT/PROMPT_ID/INDEX.png
      a .csv or .jsonl list with path, concept, prompt
      dreambench++:DIR or multibanana:DIR, as those benchmarks leave them

    They must be of the concepts and prompts of RUN, unless RUN is new. They are never changed.

      perfbench import out --as theirs --out results/mine
      perfbench import pictures.csv --as theirs --out results/new --suite photos
      perfbench import dreambench++:samples/mine --as mine --out results/plus \\
          --suite dreambench++:data
    """
    parser.add_argument(
        "pictures", metavar="PICTURES", help="a folder, a .csv or .jsonl list, or LAYOUT:DIR"
    )
    parser.add_argument(
        "--as", dest="name", default="", metavar="NAME",
        help="name of the method; in a list it applies to rows without a name",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        required=True,
        metavar="RUN",
        help="run folder that takes the pictures; made if it does not exist",
    )
    parser.add_argument(
        "--suite", default="", metavar="WHICH",
        help="suite of a new folder: photos, a folder or LAYOUT:DIR (default: the "
"miniature's)",
    )  # fmt: skip
    parser.add_argument(
        "--backbone", default="", metavar="WHICH",
        help="backbone of a new folder, if methods will be run in it as well "
"(default: none; the miniature for its own suite)",
    )  # fmt: skip
    parser.add_argument(
        "--scorers", default="", metavar="A,B",
        help="scorers of a new folder, as in `perfbench measure` (default: OpenAI's "
"CLIP ViT-B/32; the miniature's own for its suite)",
    )  # fmt: skip
    parser.add_argument(
        "--preset", default="", metavar="NAME",
        help="preset of a new folder, if methods will be run in it as well; it sets "
"the number of images",
    )  # fmt: skip
    parser.add_argument(
        "--link", action="store_true", help="make hard links to the PNGs instead of copies"
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="take the complete pictures only; tables say n/planned",
    )
    parser.add_argument(
        "--no-score",
        action="store_true",
        help="do not score now; `perfbench score RUN` does it later",
    )
    add_device(parser)

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


@verb("evaluate")
def evaluate(parser: argparse.ArgumentParser) -> Run:
    """Say which epoch to keep: draw and score LoRAs, embeddings or pipelines of any program.

    Each file becomes a method of a run, beside the plain word and the built-in --methods. A folder
    stands for all the files in it, or for its checkpoint-N. If it is interrupted, give the same
    command again. More files extend the run. The answer is in RUN/evaluation.md.

      perfbench evaluate epochs/*.safetensors --trigger "sks {}" --concept my_dog --backbone sd15
      perfbench evaluate out --trigger "sks {}" --concept teapot --prompts 20 --set images=4
      perfbench evaluate final=lora.safetensors --trigger "ohwx {}" --concept cat --methods ti
    """
    from benchmarks.planning.config import PRESETS, Config
    from benchmarks.running.flags import add_flags, config_of
    from benchmarks.scoring.reserved import FLOOR

    parser.add_argument(
        "adapters",
        nargs="+",
        metavar="ADAPTER",
        help="a .safetensors file, a folder of them, or a folder in diffusers "
        "layout; NAME=FILE gives it a name",
    )
    parser.add_argument(
        "--trigger",
        default="",
        metavar="TEXT",
        help='words it was trained with, with {} in place of the kind of thing: "sks {}"',
    )
    parser.add_argument("--concept", dest="concepts", metavar="NAME", help="the same as --concepts")
    add_flags(parser, USUAL_PRESET)
    add_stops(parser)

    def act(args: argparse.Namespace) -> int:
        if not args.concepts and not args.config:
            raise UserError(
                "which concept was it trained on? Its images are what the pictures are compared "
                "with: --concept my_dog (`perfbench ls concepts`), or a folder of them"
            )
        args.preset = args.preset or ("" if args.config else USUAL_PRESET)
        config = config_of(args)
        asked = args.methods or args.ablation or any(s.startswith("methods=") for s in args.sets)
        usual = PRESETS[config.preset][1].get("methods", Config().methods)
        if not asked and config.methods == usual:  # nothing of ours is trained unasked
            config = replace(config, methods=(FLOOR,))
        from benchmarks.exchange.evaluate import evaluate
        from benchmarks.running.command import refuse_idle_limit
        from benchmarks.running.driver import Stops

        refuse_idle_limit("--judge-limit", args.judge_limit, config.scorers)

        return evaluate(
            args.adapters,
            args.trigger,
            config,
            sys.argv[1:],
            dry_run=args.dry_run,
            stops=Stops(args.limit, 0, args.yes, args.judge_limit),
        )

    return act


@verb("export")
def export(parser: argparse.ArgumentParser) -> Run:
    """Write concepts as an embedding and a LoRA that other programs open.

    Diffusers, ComfyUI, A1111, Forge, InvokeAI and kohya's scripts read the files
    (docs/elsewhere.md). Several concepts share one joint LoRA. A LoRA by `perfbench fit lora` is
    written under the keys that these programs know.

      perfbench export teddy.safetensors --backbone sd15 --out teddy
      perfbench export cat.safetensors pot=teapot.safetensors --out both --bias cat=0.5,pot=0.6
      perfbench export cat.safetensors --out cat --compare
    """
    parser.add_argument(
        "concepts",
        nargs="+",
        metavar="CONCEPT",
        help="concept file, as FILE or NAME=FILE, or the result of `perfbench fit lora`",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the files")
    parser.add_argument(
        "--backbone",
        default="miniature",
        metavar="WHICH",
        help="name, folder in diffusers layout, .safetensors file or hub id; the "
        "export fits this backbone alone (default: miniature)",
    )
    parser.add_argument(
        "--revision", metavar="NAME", help="branch, tag or commit of a hub id (default: its newest)"
    )
    parser.add_argument(
        "--bias",
        default="0.6",
        metavar="B",
        help="bias of the gate, fixed in the export (default: 0.6); for each concept: "
        "cat=0.5,pot=0.6",
    )
    parser.add_argument(
        "--temperature",
        default="0.15",
        metavar="T",
        help="temperature of the gate, fixed in the export (default: 0.15)",
    )
    parser.add_argument(
        "--lock",
        default="local",
        metavar="LOCK",
        help="local (default); a global lock cannot be exported",
    )
    parser.add_argument(
        "--rank",
        type=whole(1),
        metavar="N",
        help="rank of the LoRA (default: 2 a concept, which is the best)",
    )
    parser.add_argument(
        "--captions",
        metavar="FILE|DATASET",
        help="texts to fit the gate on, with {} or the super-category in them "
        "(default: those in the package)",
    )
    parser.add_argument(
        "--bundle",
        action="store_true",
        help="also write LoRA and words as one file, for A1111 and ComfyUI",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="export even if the LoRA expresses too little of the gate",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is already at --out")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="draw the export beside the concept, into compare.png and compare.csv",
    )
    parser.add_argument(
        "--suite", metavar="DIR", help="with --compare: suite that has the concepts' images"
    )
    parser.add_argument(
        "--scorer",
        default="auto",
        metavar="WHICH",
        help="with --compare: scorer (default: the backbone's own)",
    )
    parser.add_argument(
        "--steps",
        type=whole(1, DDIM_STEPS),
        default=25,
        metavar="N",
        help="with --compare: sampling steps (default: 25)",
    )
    parser.add_argument(
        "--guidance",
        type=number(0, GUIDANCE),
        default=6.0,
        metavar="G",
        help="with --compare: guidance (default: 6)",
    )
    add_device(parser)
    add_dtype(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.exchange.exporting import export

        export(args)

    return act


@verb("push")
def push(parser: argparse.ArgumentParser) -> Run:
    """Send a concept, or its export, to the Hugging Face hub, with a model card.

    It first says what it sends. At a terminal it asks; elsewhere --yes is needed. The card shows
    pictures, what the bias does, the scores of --run, and how the files are used. Without --run and
    --pictures it draws nine pictures on the concept's backbone.

      perfbench push teddy.safetensors me/teddy --dry-run --out card
      perfbench push teddy.safetensors me/teddy --pictures pictures --private
      perfbench push export me/teddy-comfy --pictures pictures --yes
    """
    from benchmarks.running.fit_command import add_model_flags

    parser.add_argument(
        "what", metavar="FILE|DIR", help="a concept file, or the folder of an export"
    )
    parser.add_argument(
        "repo", metavar="OWNER/NAME", help="repository on the hub; made if it does not exist"
    )
    parser.add_argument(
        "--run",
        metavar="RUN",
        help="run that drew with this file; the card shows its scores and pictures",
    )
    parser.add_argument(
        "--pictures",
        metavar="DIR",
        help="folder of pictures that `perfbench generate` drew; none: a card without pictures",
    )
    parser.add_argument(
        "--base-model", metavar="ID", help="hub id of the backbone, named in the card"
    )
    parser.add_argument(
        "--private", action="store_true", help="make the repository private (default: public)"
    )
    parser.add_argument("--dry-run", action="store_true", help="write the folder and send nothing")
    parser.add_argument(
        "--out", metavar="DIR", help="with --dry-run: folder to write (default: ./NAME)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that are already on the hub"
    )
    parser.add_argument("--yes", action="store_true", help="send without asking")
    add_model_flags(parser, backbone="", usual="the concept's own")

    def act(args: argparse.Namespace) -> None:
        from benchmarks.exchange.push import push

        push(args)

    return act


@verb("publish")
def publish(parser: argparse.ArgumentParser) -> Run:
    """Write a run as a data set: pictures, rows, prompts and concepts, which `datasets` opens.

    The card says licence, protocol, scorers, how to cite it, and what is not there. Without
    pictures, rows are published and the card says so. With --push it goes to the Hugging Face hub,
    private unless --public is given (docs/publish.md).

      perfbench publish results/mine --to mine --licence cc-by-4.0
      perfbench publish results/mine --to mine --licence cc-by-4.0 --photographs none
      perfbench publish results/mine --to mine --licence cc0-1.0 --push me/mine
    """
    parser.add_argument("run", metavar="RUN", help="a run folder, or a name under results/")
    parser.add_argument("--to", required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--licence",
        default="",
        metavar="ID",
        help="licence of drawn pictures and rows, such as cc-by-4.0",
    )
    parser.add_argument(
        "--photographs",
        default="",
        metavar="WHICH",
        help="licence of concepts' own pictures that did not come with Perfbench: an identifier, "
        "none (they stay here), or NAME=ID,...",
    )
    parser.add_argument("--push", metavar="OWNER/NAME", default="", help="send it to the hub, too")
    parser.add_argument("--public", action="store_true", help="with --push: let everybody see it")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there already")
    parser.add_argument("--yes", action="store_true", help="with --push: send without asking")

    def act(args: argparse.Namespace) -> None:
        from benchmarks.exchange.publishing import publish

        publish(args)

    return act


@around("fit")
def push_fit(parser: argparse.ArgumentParser) -> Around:
    """`perfbench fit ... --push owner/name`: the concept goes to the hub when it is trained."""
    parser.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="send the trained concept to the hub without asking, as `perfbench push` does",
    )
    parser.add_argument(
        "--private", action="store_true", help="with --push: make the repository private"
    )

    @contextmanager
    def during(args: argparse.Namespace) -> Iterator[None]:
        if args.push is None:
            if args.private:
                raise UserError("--private is of --push; add --push OWNER/NAME, or leave it out")
            yield
            return
        from benchmarks.exchange.push_fit import after_fit, before_fit

        before_fit(args)
        yield
        after_fit(args)

    return during
