"""What an export draws beside the concept that it was made of: a sheet and a table.

In: a backbone, concepts, the files that were written. Out: compare.png and compare.csv beside them.
The plain word and other seeds of the concept itself are the measure of what is near.
"""

import argparse
import csv
import io
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from benchmarks.disk import write_whole, written_whole
from benchmarks.exchange.lora_files import word_of
from benchmarks.scoring.similarity import image_similarity
from benchmarks.suite.catalog import Catalog, fill, leave_out
from benchmarks.tables.table_text import aligned
from perfusion_core.concept import Concept
from perfusion_core.text_encoders import FILE_KEYS

PROMPTS, SEEDS, OTHER = 6, (0, 1), 100  # other seeds: so much higher
PLAIN, GATED, EXPORTED, OTHERS = "the plain word", "the concept", "the export", "other seeds"
SIDE, GAP, LINE, MARGIN = 160, 6, 16, 92  # of the sheet, in pixels
INK, GREY, PAPER = (0, 0, 0), (90, 90, 90), (255, 255, 255)

Drawn = dict[str, np.ndarray]  # by what was drawn, uint8 [prompts x seeds, H, W, 3]


class Judge:
    """Opened before anything is drawn, so that what is missing is said first."""

    def __init__(self, args: argparse.Namespace, backbone: Any) -> None:
        from benchmarks.scoring.lookup import find_scorer
        from benchmarks.scoring.scorers import open_scorer
        from benchmarks.suite.importers import open_suite

        drawn_world = (backbone.place / "scorer").is_dir()
        self.catalog: Catalog = open_suite(args.suite or ("miniature" if drawn_world else "photos"))
        self.prompts = [p.template for p in self.catalog.prompts if p.kind == "shape"][::3]
        self.prompts = self.prompts[:PROMPTS] or [
            p.template for p in self.catalog.prompts[:PROMPTS]
        ]
        self.scorer = find_scorer(args.scorer, backbone.name, backbone.place)
        self.model = open_scorer(self.scorer, str(backbone.device))

    def references(self, concept: Concept) -> list[Image.Image]:
        """The pictures of a concept, by its own name; none where the suite has it not."""
        from benchmarks.suite.image_files import load_image

        for one in self.catalog.concepts:
            if one.name == concept.placeholder and one.images:
                return [load_image(path) for path in one.images]
        print(
            f"perfbench: the suite {self.catalog.name} has no pictures of {concept.placeholder!r}: "
            f"its image similarity is left out; --suite DIR names another",
            file=sys.stderr,
        )
        return []


def compare(
    args: argparse.Namespace,
    judge: Judge,
    backbone: Any,
    concepts: Mapping[str, Concept],
    files: Sequence[Path],
    point: tuple[dict[str, float], dict[str, float]],
) -> None:
    """`files`: the embeddings, then the LoRA, as stock diffusers opens them."""
    texts, drawn = drawn_by_all(args, judge.prompts, backbone, concepts, files, point)
    references = {name: judge.references(one) for name, one in concepts.items()}
    rows = scored(judge.model, texts, drawn, references)
    out = files[0].parent
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(out / "compare.csv", text.getvalue())
    with written_whole(out / "compare.png") as aside:
        sheet(judge.prompts, drawn, references).save(aside, format="PNG")
    print(aligned([list(rows[0]), *(list(row.values()) for row in rows)]), file=sys.stderr)
    print(out / "compare.png", out / "compare.csv", sep="\n")


def drawn_by_all(
    args: argparse.Namespace,
    prompts: Sequence[str],
    backbone: Any,
    concepts: Mapping[str, Concept],
    files: Sequence[Path],
    point: tuple[dict[str, float], dict[str, float]],
) -> tuple[list[str], Drawn]:
    """The templates, one a picture; and the pictures. The export is loaded last, and stays."""
    from diffusers.utils import logging

    from perfusion_core.editing import load_concepts
    from perfusion_core.memory import draw_what_fits
    from perfusion_core.sampling import prepared

    logging.set_verbosity_error()  # a prompt that is cut
    seeds = list(SEEDS) * len(prompts)
    texts = [text for text in prompts for _ in SEEDS]

    def draw(words: Sequence[str], more: int = 0) -> np.ndarray:
        thing = " and a ".join(words)
        lines = [fill(text, thing) for text in texts]
        wanted = prepared(backbone, lines, [seed + more for seed in seeds], args.guidance)
        images, _ = draw_what_fits(backbone, wanted, steps=args.steps, guidance=args.guidance)
        return np.asarray(images)

    pipe = backbone.pipe
    drawn = {PLAIN: draw([one.super_category for one in concepts.values()])}
    with load_concepts(pipe, concepts, "local", *point, force=args.force):
        named = [f"{{{name}}}" for name in concepts]
        drawn |= {GATED: draw(named), OTHERS: draw(named, OTHER)}
    *embeddings, lora = files
    for path in embeddings:
        load_word(backbone, path)
    pipe.load_lora_weights(str(lora.parent), weight_name=lora.name)
    drawn[EXPORTED] = draw([f"<{name}>" for name in concepts])
    return texts, {name: drawn[name] for name in (PLAIN, GATED, EXPORTED, OTHERS)}


def load_word(backbone: Any, path: Path) -> None:
    """An embedding of the export, into each text encoder that reads the prompt."""
    if not backbone.text.joint:
        backbone.pipe.load_textual_inversion(str(path))
        return
    rows, word = load_file(path), path.stem.removesuffix(word_of(""))
    for reader, key in zip(backbone.text.readers, FILE_KEYS, strict=True):
        parts = {"text_encoder": reader.model, "tokenizer": reader.tokenizer}
        backbone.pipe.load_textual_inversion(rows[key], token=f"<{word}>", **parts)


def scored(
    model: Any, texts: Sequence[str], drawn: Drawn, references: Mapping[str, Sequence[Image.Image]]
) -> list[dict[str, str]]:
    """A row for each kind of picture; text similarity relative to the plain word's."""
    seen = {name: model.images(list(map(Image.fromarray, one))) for name, one in drawn.items()}
    real = {name: model.images(list(one)) for name, one in references.items() if one}
    asked = np.stack([model.text(leave_out(text)) for text in texts]) if model.text else None
    rows = []
    for name, features in seen.items():
        row = {"pictures": name}
        for concept, theirs in real.items():
            row[f"image {concept}"] = f"{image_similarity(features, theirs).mean():.4f}"
        if asked is not None:
            own, plain = ((f * asked).sum(1).mean() for f in (features, seen[PLAIN]))
            row["text / plain"] = f"{own / plain:.3f}"
        apart = np.abs(drawn[name].astype(float) - drawn[GATED]).mean()
        row["pixels from the concept"] = f"{apart:.2f}"
        row["cosine with the concept"] = f"{(features * seen[GATED]).sum(1).mean():.4f}"
        rows.append(row)
    return rows


def shortened(prompt: str) -> str:
    return textwrap.shorten(prompt.removeprefix("A ").replace("{}", "..."), 26, placeholder=" ..")


def sheet(
    prompts: Sequence[str], drawn: Drawn, references: Mapping[str, Sequence[Image.Image]]
) -> Image.Image:
    """A row of each kind, the first seed of each prompt; above them what the concepts look like."""
    rows: dict[str, Sequence[Any]] = {}
    if shown := [image for images in references.values() for image in images[:PROMPTS]]:
        rows["its images"] = shown[:: max(1, len(shown) // PROMPTS)][:PROMPTS]
    rows |= {name: list(map(Image.fromarray, one[:: len(SEEDS)])) for name, one in drawn.items()}
    width = MARGIN + len(prompts) * (SIDE + GAP)
    page = Image.new("RGB", (width, LINE + len(rows) * (SIDE + GAP)), PAPER)
    draw = ImageDraw.Draw(page)
    for k, prompt in enumerate(prompts):
        draw.text((MARGIN + k * (SIDE + GAP), 2), shortened(prompt), fill=INK)
    for line, (name, images) in enumerate(rows.items()):
        top = LINE + line * (SIDE + GAP)
        draw.text((GAP, top + SIDE // 2), name, fill=GREY)
        for k, image in enumerate(images):
            large = image.width >= SIDE
            way = Image.Resampling.LANCZOS if large else Image.Resampling.NEAREST
            page.paste(
                image.convert("RGB").resize((SIDE, SIDE), way), (MARGIN + k * (SIDE + GAP), top)
            )
    return page
