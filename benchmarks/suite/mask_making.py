"""`perfbench covariance` and `masks`: what a backbone and a concept need once, before anything is
trained.

In: the verbs' arguments. Out: C beside the backbone or in the cache; masks in the concept's folder.
"""

import argparse
import sys
from pathlib import Path

from perfusion_core.errors import UserError

SHEETS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def covariance(args: argparse.Namespace) -> None:
    """Estimate C over a stream of captions and store it; a second call goes on where the first one
    stopped.
    """
    from tqdm import tqdm

    from benchmarks.devices import device_name
    from benchmarks.paths import backbone_names, backbone_place, miniature_dir
    from perfusion_core.backbone import Backbone
    from perfusion_core.covariance import estimate, home, inverse, read_captions

    # Only the text encoder is used, and it stays in float32 whatever the dtype.
    device, names = device_name(args.device), backbone_names()
    place = backbone_place(args.backbone)
    if args.backbone in names or place.resolve() == miniature_dir().resolve():
        # part of the package: all committed numbers rest on it
        raise UserError(
            "the miniature has its C; `perfbench miniature build --out DIR` makes one with another"
        )
    backbone = Backbone.open(args.backbone, device=device, revision=args.revision, names=names)
    source = args.captions
    # no machine paths in the file
    name = source if not Path(source).exists() else Path(source).name
    name += f", column {args.column}" if args.column else ""
    # another one is never gone on with
    name += f", split {args.split}" if args.split != "train" else ""
    target = home(backbone.place, backbone.text_digest, fetched=backbone.revision is not None)
    with tqdm(
        total=args.limit,
        unit=" captions",
        desc=f"C of {backbone.name}",
        file=sys.stderr,
        disable=None,
    ) as bar:
        done = estimate(
            backbone,
            read_captions(source, args.column, args.split),
            target,
            source=name,
            limit=args.limit,
            batch=args.batch,
            progress=bar.update,
        )
    shrink = inverse(done.matrix)[1]
    added = f", {shrink:.3g} added to its diagonal when used (condition 1e4)" if shrink else ""
    print(f"perfbench: {done.captions} captions, {done.tokens} tokens{added}", file=sys.stderr)
    print(target)


def masks(args: argparse.Namespace) -> None:
    """CLIPSeg's masks of concepts' images, into masks/ beside images/ and into concept.toml; and a
    look at them.
    """
    from benchmarks.devices import device_name
    from benchmarks.disk import ask_for, written_whole
    from benchmarks.safe_paths import below
    from benchmarks.suite.catalog import load_catalog
    from benchmarks.suite.concept_folder import read_concept
    from benchmarks.suite.concept_masks import draw_masks, sheet
    from perfusion_core.masks import open_clipseg

    concepts = load_catalog(args.suite).select_concepts(args.concepts)
    if args.show:
        show = Path(args.show)
        ask_for(show)
        if not (form := SHEETS.get(show.suffix.lower())):
            raise UserError(f"--show {show}: name a picture that ends in {', '.join(SHEETS)}")
        bare = [concept.name for concept in concepts if not concept.masks]
        if bare:
            raise UserError(
                f"concept {bare[0]!r} has no masks to show; `perfbench masks {bare[0]}` makes them"
            )
        with written_whole(show) as aside:
            sheet(concepts).save(aside, format=form)
        print(show)
        return
    for concept in concepts:
        if concept.masks:
            raise UserError(
                f"concept {concept.name!r} has masks already, in {concept.masks[0].parent}; "
                f"--show FILE shows them"
            )
    # asked before the work, of a folder that may be somebody else's
    pictures = [below(concept.images[0].parent.parent, "masks.png") for concept in concepts]
    opened = open_clipseg(args.model, device_name(args.device))
    for concept, picture in zip(concepts, pictures, strict=True):
        folder = add_masks(concept.images, draw_masks(opened, concept))
        with written_whole(picture) as aside:
            sheet([read_concept(folder.parent)]).save(aside, format="PNG")
        print(folder)
        print(f"perfbench: look at {picture}: what is red is left out", file=sys.stderr)


def add_masks(images: tuple[Path, ...], found: list) -> Path:
    """8-bit grey PNGs of the images' names; concept.toml records them last, so it names nothing
    that is missing.
    """
    from benchmarks.disk import write_whole
    from benchmarks.safe_paths import below
    from benchmarks.suite.concept_folder import read_about, toml
    from benchmarks.suite.concept_masks import write_masks
    from perfusion_core.weight_digests import file_sha256

    root = images[0].parent.parent
    about = read_about(root)
    folder = below(root, "masks")
    write_masks(found, [folder / f"{path.stem}.png" for path in images])
    if "images" in about:  # a folder whose files are recorded
        about["masks"] = {
            f"{path.stem}.png": file_sha256(folder / f"{path.stem}.png") for path in images
        }
        write_whole(root / "concept.toml", toml(about))
    return folder
