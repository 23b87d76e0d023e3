"""`perfbench concepts`, `catalog`, `masks`: concepts of one's own, and whether all is well with
them.
"""

import argparse

from benchmarks.options import add_device, whole
from benchmarks.verb import Run, verb


@verb("concepts")
def concepts(parser: argparse.ArgumentParser) -> Run:
    """Get, adopt, add or import concepts. A concept is a folder of images of one thing.

    perfbench concepts add photos/my_teapot --super-category teapot
    perfbench concepts fetch all
    perfbench concepts adopt sculpture downloads/headless_statue
    perfbench concepts import dreambench:DIR
    """
    doing = parser.add_subparsers(dest="do", required=True, metavar="fetch|adopt|add|import")
    fetch = doing.add_parser(
        "fetch",
        help="download the photographs of the paper's concepts",
        description="Download the photographs of the paper's concepts from their sources.",
    )
    fetch.add_argument("names", help="all, or names separated by commas")
    adopt = doing.add_parser(
        "adopt",
        help="use a folder of yours as one of the paper's concepts",
        description="Use a folder of photographs that you have as one of the paper's concepts.",
    )
    adopt.add_argument("name", help="name of the concept that it stands for")
    adopt.add_argument("dir", help="your folder of photographs")
    add = doing.add_parser(
        "add",
        help="make a concept from your photographs, or from a concept under another word",
        description="Make a concept from 4 to 8 photographs of one thing, or from a concept "
        "folder under another word.",
    )
    add.add_argument(
        "dir", help="a folder of photographs, or a concept folder, whose masks are then copied too"
    )
    add.add_argument(
        "--super-category",
        required=True,
        metavar="WORD",
        help="the kind of thing, one word: teapot",
    )
    add.add_argument("--name", help="name of the concept (default: the folder's name)")
    add.add_argument(
        "--group",
        choices=("animated", "container", "furniture", "wearable", "other"),
        help="group whose prompts the concept gets (default: by the super-category)",
    )
    add.add_argument(
        "--asymmetric",
        action="store_true",
        help="never mirror it in training, for writing or one-sided marks",
    )
    add.add_argument(
        "--heldout",
        type=whole(1),
        default=0,
        metavar="N",
        help="hold the last N pictures out of all training; likeness is measured to them as well",
    )
    add.add_argument(
        "--licence",
        default="",
        help="licence of the photographs (default: the owner's, not for redistribution)",
    )
    suite = doing.add_parser(
        "import",
        help="copy the concepts of another suite, for use with our prompts",
        description="Copy the concepts of another suite. They get our prompts then, not its own.",
    )
    suite.add_argument(
        "suite",
        metavar="LAYOUT:DIR",
        help="suite to copy from; `perfbench ls suites` lists the layouts",
    )
    for each in (fetch, adopt, add, suite):
        each.add_argument(
            "--dest",
            metavar="DIR",
            help="folder for the concepts (default: your data folder, $PERFBENCH_DATA)",
        )

    def act(args: argparse.Namespace) -> int:
        from benchmarks.suite import concept_actions as do

        return {
            "fetch": do.fetch_concepts,
            "adopt": do.adopt,
            "add": do.add,
            "import": do.import_suite,
        }[args.do](args)

    return act


@verb("catalog")
def catalog(parser: argparse.ArgumentParser) -> Run:
    """Check prompts and concepts: counts, ids, groups, images, licences, one-token words.

    perfbench catalog check
    perfbench catalog check --backbone miniature
    perfbench catalog check --suite dreambench:DIR
    """
    check = parser.add_subparsers(dest="do", required=True, metavar="check").add_parser(
        "check",
        help="check the catalogue; exit status 0 if nothing is wrong",
        description="Check the catalogue. The exit status is 0 if nothing is wrong.",
    )
    check.add_argument("--suite", help="suite to check (default: everything in the package)")
    check.add_argument(
        "--backbone",
        metavar="NAME|DIR|HUB_ID",
        help="backbone whose tokenizer counts (default: CLIP's, of Stable Diffusion 1 and 2)",
    )

    def act(args: argparse.Namespace) -> int:
        from benchmarks.suite.concept_actions import check_catalog

        return check_catalog(args)

    return act


@verb("masks")
def masks(parser: argparse.ArgumentParser) -> Run:
    """Make soft masks of concepts' images with CLIPSeg, or show the existing ones.

    perfbench masks my_teapot
    perfbench masks all --suite photos --device cuda
    perfbench masks cat,teapot --suite miniature --show masks.png
    """
    parser.add_argument("concepts", help="all, or names and folders separated by commas")
    parser.add_argument(
        "--suite",
        default="photos",
        metavar="SUITE",
        help="suite that has these concepts (default: photos)",
    )
    parser.add_argument(
        "--show",
        metavar="FILE",
        help="make no masks; draw the existing ones over the images, into FILE",
    )
    parser.add_argument(
        "--model",
        default="CIDAS/clipseg-rd64-refined",
        metavar="HUB_ID|DIR",
        help="CLIPSeg, as a hub id or a folder",
    )
    add_device(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.suite.mask_making import masks

        masks(args)

    return act
