"""`perfbench concepts`, `catalog`, `masks`: concepts of one's own, and whether all is well with
them.
"""

import argparse

from benchmarks.options import add_device, whole
from benchmarks.verb import Run, verb


@verb("concepts")
def concepts(parser: argparse.ArgumentParser) -> Run:
    """Get, adopt, add or import concepts: folders of images of one thing.

    examples:
      perfbench concepts add photos/my_teapot --super-category teapot
      perfbench concepts fetch all
      perfbench concepts adopt sculpture downloads/headless_statue
      perfbench concepts import dreambench:DIR
    """
    doing = parser.add_subparsers(dest="do", required=True, metavar="fetch|adopt|add|import")
    fetch = doing.add_parser("fetch", help="download the photographs of the paper's concepts")
    fetch.add_argument("names", help="all, or names with commas between them")
    adopt = doing.add_parser(
        "adopt", help="take a folder that you have as one of the paper's concepts"
    )
    adopt.add_argument("name")
    adopt.add_argument("dir")
    add = doing.add_parser(
        "add", help="make a concept of your photographs, or of a concept under another word"
    )
    add.add_argument(
        "dir", help="a folder of photographs, or a concept folder, whose masks then come along"
    )
    add.add_argument(
        "--super-category",
        required=True,
        metavar="WORD",
        help="the kind of thing, one word: teapot",
    )
    add.add_argument("--name", help="default: the folder's name")
    add.add_argument("--group", choices=("animated", "container", "furniture", "wearable", "other"),
                     help="whose prompts it gets; default: by the super-category")  # fmt: skip
    add.add_argument(
        "--asymmetric",
        action="store_true",
        help="never mirror it in training (writing, one-sided marks)",
    )
    add.add_argument(
        "--heldout",
        type=whole(1),
        default=0,
        metavar="N",
        help="keep the last N pictures from all training: likeness is measured to them as well",
    )
    add.add_argument("--licence", default="", help="default: the owner's; not for redistribution")
    suite = doing.add_parser(
        "import", help="copy the concepts of another suite, to be used with our prompts"
    )
    suite.add_argument(
        "suite", metavar="LAYOUT:DIR", help="`perfbench ls suites` tells the layouts"
    )
    for each in (fetch, adopt, add, suite):
        each.add_argument(
            "--dest", metavar="DIR", help="default: your data folder ($PERFBENCH_DATA)"
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
    """Check prompts and concepts: counts, ids, groups, images, licences, words of one token.

    examples:
      perfbench catalog check
      perfbench catalog check --backbone miniature
      perfbench catalog check --suite dreambench:DIR
    """
    check = parser.add_subparsers(dest="do", required=True, metavar="check").add_parser(
        "check", help="0: nothing wrong"
    )
    check.add_argument("--suite", help="default: everything that is shipped")
    check.add_argument(
        "--backbone",
        metavar="NAME|DIR|HUB_ID",
        help="whose tokenizer; default: CLIP's, of SD 1 and 2",
    )

    def act(args: argparse.Namespace) -> int:
        from benchmarks.suite.concept_actions import check_catalog

        return check_catalog(args)

    return act


@verb("masks")
def masks(parser: argparse.ArgumentParser) -> Run:
    """Make soft masks of concepts' images with CLIPSeg, or look at those they have.

    perfbench masks my_teapot
    perfbench masks all --suite photos --device cuda
    perfbench masks cat,teapot --suite miniature --show masks.png
    """
    parser.add_argument("concepts", help="all, or names and folders with commas between them")
    parser.add_argument(
        "--suite",
        default="photos",
        metavar="SUITE",
        help="where the names are looked up; default photos",
    )
    parser.add_argument(
        "--show", metavar="FILE", help="make none; draw those that are there over the images"
    )
    parser.add_argument(
        "--model", default="CIDAS/clipseg-rd64-refined", metavar="HUB_ID|DIR", help="of CLIPSeg"
    )
    add_device(parser)

    def act(args: argparse.Namespace) -> None:
        from benchmarks.suite.mask_making import masks

        masks(args)

    return act
