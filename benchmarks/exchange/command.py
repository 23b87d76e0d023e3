"""The verbs of exchange: what other programs made comes in, what was made here goes out to them."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.options import DDIM_STEPS, GUIDANCE, add_device, add_dtype, add_stops, number, whole
from benchmarks.verb import Around, Run, around, verb
from perfusion_core.errors import UserError


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
    """Which epoch to keep: LoRAs, embeddings, pipelines that any program trained, drawn and scored.

    Each file is a method of a run, beside the plain word (and --methods of ours). A folder stands
    for all the files in it, or for its checkpoint-N. Interrupted at any moment, the same command
    goes on; more files are added. Writes RUN/evaluation.md.

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
        help="a .safetensors file, a folder of them, a folder of diffusers; NAME=FILE names it",
    )
    parser.add_argument(
        "--trigger",
        default="",
        metavar="TEXT",
        help='what it was trained with: "sks {}", with {} where the kind of thing stands',
    )
    parser.add_argument("--concept", dest="concepts", metavar="NAME", help="the same as --concepts")
    add_flags(parser)
    add_stops(parser)

    def act(args: argparse.Namespace) -> int:
        if not args.concepts and not args.config:
            raise UserError(
                "which concept was it trained on? Its images are what the pictures are compared "
                "with: --concept my_dog (`perfbench ls concepts`), or a folder of them"
            )
        args.preset = args.preset or ("" if args.config else "quick")
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
    (docs/elsewhere.md). Several concepts come in one joint LoRA. A LoRA that `perfbench fit lora`
    left is written under the keys that these programs know.

      perfbench export teddy.safetensors --backbone sd15 --out teddy
      perfbench export cat.safetensors pot=teapot.safetensors --out both --bias cat=0.5,pot=0.6
      perfbench export cat.safetensors --out cat --compare
    """
    parser.add_argument(
        "concepts",
        nargs="+",
        metavar="CONCEPT",
        help="FILE or NAME=FILE; or what `perfbench fit lora` left",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the files are written there")
    parser.add_argument(
        "--backbone",
        default="miniature",
        metavar="WHICH",
        help="a name, folder, .safetensors file, hub id: the export is good for this one alone",
    )
    parser.add_argument("--revision", metavar="NAME", help="of a hub id: a branch, tag or commit")
    parser.add_argument(
        "--bias", default="0.6", metavar="B", help="of the gate, fixed here; or cat=0.5,pot=0.6"
    )
    parser.add_argument(
        "--temperature", default="0.15", metavar="T", help="of the gate, fixed here; default 0.15"
    )
    parser.add_argument(
        "--lock", default="local", metavar="LOCK", help="local; a global lock cannot be exported"
    )
    parser.add_argument(
        "--rank", type=whole(1), metavar="N", help="of the LoRA; default the best, 2 a concept"
    )
    parser.add_argument(
        "--captions",
        metavar="FILE|DATASET",
        help="texts to fit the gate on, with {} or the super-category; default shipped ones",
    )
    parser.add_argument(
        "--bundle", action="store_true", help="also LoRA and words in one file, for A1111, ComfyUI"
    )
    parser.add_argument(
        "--force", action="store_true", help="even where the LoRA tells too little of the gate"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what --out has already")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="draw the export beside the concept: compare.png and compare.csv",
    )
    parser.add_argument(
        "--suite", metavar="DIR", help="of --compare: where the concepts' images are looked up"
    )
    parser.add_argument(
        "--scorer", default="auto", metavar="WHICH", help="of --compare; default the backbone's own"
    )
    parser.add_argument(
        "--steps",
        type=whole(1, DDIM_STEPS),
        default=25,
        metavar="N",
        help="of --compare; default 25",
    )
    parser.add_argument(
        "--guidance",
        type=number(0, GUIDANCE),
        default=6.0,
        metavar="G",
        help="of --compare; default 6",
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

    Says first what it sends. At a terminal it asks; elsewhere --yes is needed. The card has
    pictures, what the bias does, scores where a run has them, and how the files are used. Without
    --run and --pictures it draws nine pictures on the concept's backbone.

      perfbench push teddy.safetensors me/teddy --dry-run --out card
      perfbench push teddy.safetensors me/teddy --pictures pictures --private
      perfbench push export me/teddy-comfy --pictures pictures --yes
    """
    from benchmarks.running.fit_command import add_model_flags

    parser.add_argument("what", metavar="FILE|DIR", help="a concept file, or an export's folder")
    parser.add_argument("repo", metavar="OWNER/NAME", help="on the hub; made where it is not there")
    parser.add_argument("--run", metavar="RUN", help="that drew with this file: scores, pictures")
    parser.add_argument(
        "--pictures", metavar="DIR", help="by `perfbench generate`; none: a card without pictures"
    )
    parser.add_argument("--base-model", metavar="ID", help="hub id of the backbone, for the card")
    parser.add_argument("--private", action="store_true", help="for you alone; default for all")
    parser.add_argument("--dry-run", action="store_true", help="write the folder, send nothing")
    parser.add_argument("--out", metavar="DIR", help="of --dry-run; default ./NAME")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.add_argument("--yes", action="store_true", help="send without asking")
    add_model_flags(parser)
    parser.set_defaults(backbone="")

    def act(args: argparse.Namespace) -> None:
        from benchmarks.exchange.push import push

        push(args)

    return act


@around("fit")
def push_fit(parser: argparse.ArgumentParser) -> Around:
    """`perfbench fit ... --push owner/name`: the concept goes to the hub when it is trained."""
    parser.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="send the concept to the hub when it is trained, without asking, as `perfbench push`",
    )
    parser.add_argument("--private", action="store_true", help="with --push: for you alone")

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
