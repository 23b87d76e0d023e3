"""`perfbench measure`: the numbers of pictures that are there, without a run or a suite.

In: pictures, references of the thing, prompts, scorers. Out: a row a scorer, with what the same
scorer gives for the references among themselves.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmarks.devices import device_name
from benchmarks.paths import miniature_dir
from benchmarks.running.scorers_beforehand import tell_modern
from benchmarks.scoring.lookup import (
    JUDGE,
    SD_SCORER,
    Scorer,
    find_scorer,
    knows_pictures_only,
)
from benchmarks.scoring.modern import spelled_out
from benchmarks.scoring.similarity import ceiling, image_similarity
from benchmarks.suite.catalog import fill, leave_out
from benchmarks.suite.concept_folder import list_images
from benchmarks.suite.image_files import as_rgb, load_image
from benchmarks.tables.table_text import aligned
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import file_sha256

if TYPE_CHECKING:
    from benchmarks.running.known_features import LazyScorer
    from benchmarks.scoring.judge_question import Shown

BATCH = 64  # pictures a pass
MINIATURE = "miniature"  # its own scorer, of which no download is needed
Picture = Path | Image.Image | np.ndarray  # a file, an image, or an array uint8 [H, W, 3]


@dataclass(frozen=True)
class Measured:
    """Means over the pictures; None where there is nothing to compare with."""

    scorer: str
    pixels: str  # how pictures become the model's input
    pictures: int
    references: int
    image_sim: float | None
    ceiling: float | None  # the same cosine of each reference with the others
    text_sim_raw: float | None  # with the prompt without the thing, as Perfusion's paper has it
    text_sim_word: float | None  # with the word for its kind in the prompt, as CLIP-T usually has
    each: tuple[dict[str, Any], ...]


def measure(
    pictures: Sequence[Picture],
    references: Sequence[Picture] = (),
    prompts: Sequence[str] = (),
    word: str = "",
    scorers: Sequence[str] = (),
    device: str = "auto",
    limit: int = 0,
    cache: bool = True,
) -> list[Measured]:
    """`prompts`: with `{}` where the thing stands; one for all pictures, or one each. `limit`:
    calls of judges. `cache`: take what a scorer made of the same pictures before."""
    refuse_mismatch(pictures, prompts)
    scorers = spelled_out(scorers)
    tell_modern(scorers, len(pictures) + len(references), device_name(device))
    blind = [name for name in scorers if knows_pictures_only(name)]
    if blind and not references:
        raise UserError(
            f"{blind[0]} reads no text, so that it cannot measure a prompt: give --references DIR, "
            f"or another scorer"
        )
    found = [scorer_of(name) for name in scorers or (SD_SCORER,)]
    judges = [one for one in found if one.kind == JUDGE]
    given = (pictures, references, prompts, word)
    # first, because this may cost money, and is refused where it was not expected
    judged = judged_pictures(judges, *given, limit) if judges else {}
    models = opened([one for one in found if one.name not in judged], device, cache)
    drawn, real = features(models, pictures), features(models, references)
    return [
        judged.get(one.name)
        or measured(one, models[one.name], drawn[one.name], real[one.name], pictures, prompts, word)
        for one in found
    ]


def judged_pictures(
    judges: Sequence[Scorer],
    pictures: Sequence[Picture],
    references: Sequence[Picture],
    prompts: Sequence[str],
    word: str,
    limit: int,
) -> dict[str, Measured]:
    """The same by judges, whose scores are shares of the best grade; they have no ceiling."""
    from benchmarks.running.judged_cells import graded_pictures

    if not references or not prompts:
        raise UserError(
            "a judge compares pictures with references and with a prompt: give --references DIR "
            'and --prompt "A {} on the beach"'
        )
    if not word:
        raise UserError(
            "a judge is asked with the kind of thing in the prompt: give --super-category WORD, "
            "such as teapot (`word` of benchmarks.api.measure)"
        )
    texts = [fill(text, word) for text in prompts]
    texts *= len(pictures) if len(texts) == 1 else 1
    found = {}
    drawn, real = [shown(one) for one in pictures], [shown(one) for one in references]
    for scorer, told in graded_pictures(judges, drawn, real, texts, limit):
        each = called(pictures)
        for row, (image, text) in zip(each, told):
            if not np.isnan(image):
                row |= {"image_sim": image, "text_sim_word": text}
        means = {name: mean_of(each, name) for name in ("image_sim", "text_sim_word")}
        found[scorer.name] = Measured(
            scorer=scorer.name,
            pixels=scorer.pixels,
            pictures=len(pictures),
            references=len(references),
            ceiling=None,
            text_sim_raw=None,
            **means,
            each=tuple(each),
        )
    return found


def measured(
    scorer: Scorer,
    model: Any,
    drawn: np.ndarray,
    real: np.ndarray,
    pictures: Sequence[Picture],
    prompts: Sequence[str],
    word: str,
) -> Measured:
    """By one scorer's vectors of pictures and references."""
    each = called(pictures)
    if len(real):
        for row, value in zip(each, image_similarity(drawn, real)):
            row["image_sim"] = float(value)
    texts = list(prompts) * (len(pictures) if len(prompts) == 1 else 1)
    if texts and model.text:
        for row, seen, text in zip(each, drawn, texts):
            row["text_sim_raw"] = float(seen @ model.text(leave_out(text)))
            if word:
                row["text_sim_word"] = float(seen @ model.text(fill(text, word)))
    others = ceiling(real) if len(real) > 1 else np.array([])
    return Measured(
        scorer=scorer.name,
        pixels=scorer.pixels,
        pictures=len(pictures),
        references=len(real),
        **{name: mean_of(each, name) for name in ("image_sim", "text_sim_raw", "text_sim_word")},
        ceiling=float(others.mean()) if len(others) else None,
        each=tuple(each),
    )


def called(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """A row a picture: its file, or its number where it lies in memory."""
    return [
        {"picture": str(one) if isinstance(one, Path) else number}
        for number, one in enumerate(pictures)
    ]


def shown(one: Picture) -> "Shown":
    """The same for a judge, with its digest."""
    from benchmarks.scoring.judge_question import Shown

    return Shown(one if isinstance(one, Path) else seen(one), digest_of(one))


def digest_of(one: Picture) -> str:
    """Of the file, or of the pixels."""
    if isinstance(one, Path):
        return file_sha256(one)
    picture = seen(one)
    return hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()


def mean_of(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if name in row]
    return float(np.mean(values)) if values else None


def opened(scorers: Sequence[Scorer], device: str, cache: bool) -> "dict[str, LazyScorer]":
    """Models of vectors by name, each opened if it has to look; a judge alone needs no torch."""
    if not scorers:
        return {}
    from benchmarks.running.known_features import LazyScorer, known_features

    where = device_name(device)
    known = known_features("usual" if cache else "none", where)
    return {one.name: LazyScorer(one, where, known) for one in scorers}


def features(
    models: "Mapping[str, LazyScorer]", pictures: Sequence[Picture]
) -> dict[str, np.ndarray]:
    """[n, d] by each model; read once for all of them, and some at a time."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in models}
    for start in range(0, len(pictures) if models else 0, BATCH):
        some = pictures[start : start + BATCH]
        digests, read = [digest_of(one) for one in some], read_once(some)
        for name, model in models.items():
            parts[name].append(model.named(digests, read))
    return {name: np.concatenate(of) if of else np.empty((0, 0)) for name, of in parts.items()}


def read_once(some: Sequence[Picture]) -> Callable[[], list[Image.Image]]:
    """They are read at the first call, if there is one."""
    return functools.cache(lambda: [seen(one) for one in some])


def seen(one: Picture) -> Image.Image:
    """RGB, as a file of it would be read."""
    if isinstance(one, Path):
        return load_image(one)
    if isinstance(one, np.ndarray):
        if one.dtype != np.uint8 or one.ndim != 3 or one.shape[2] != 3 or 0 in one.shape:
            raise UserError(
                f"an array of a picture is uint8 [height, width, 3], not {one.dtype} "
                f"{list(one.shape)}"
            )
        return Image.fromarray(one)
    return as_rgb(one)


def scorer_of(name: str) -> Scorer:
    if name == MINIATURE:
        return find_scorer("auto", MINIATURE, miniature_dir())
    if name in ("auto", "truth"):
        raise UserError(
            f"--scorers {name} is the scorer of a run's backbone; without a run name one: "
            f"{MINIATURE}, {SD_SCORER}, dino, dinov2, timm:MODEL, judge:URL#MODEL or a folder"
        )
    return find_scorer(name, "", Path())


# ---- words and lines ----


def pictures_of(given: Sequence[str], flag: str) -> list[Path]:
    """Files as they are named, and the pictures of folders by name."""
    found: list[Path] = []
    for word in given:
        path = Path(word)
        inside = list_images(path) if path.is_dir() else [path]
        if not inside:
            raise UserError(
                f"{flag} {word}: no pictures are in this folder; name one that has some"
            )
        found += inside
    for path in found:
        if not path.is_file():
            raise UserError(f"{flag}: there is no {path}")
    return found


def prompts_of(prompt: str | None, file: str | None) -> list[str]:
    """One for all, or a line each."""
    if prompt is not None and file is not None:
        raise UserError("give --prompt for all pictures or --prompts for one each, not both")
    if file is None:
        return [prompt] if prompt is not None else []
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"--prompts {file} cannot be read: {error}") from None
    return [line.strip() for line in lines if line.strip()]


def refuse_mismatch(pictures: Sequence[Picture], prompts: Sequence[str]) -> None:
    if len(prompts) > 1 and len(prompts) != len(pictures):
        raise UserError(
            f"{len(prompts)} prompts and {len(pictures)} pictures: one prompt a picture is needed, "
            f"in the order of the pictures, or one for all"
        )
    for prompt in prompts:
        if prompt.count("{}") != 1 or set(prompt.replace("{}", "")) & set("{}"):
            raise UserError(f"the prompt {prompt!r:.80} needs one {{}} where the thing stands")


def told(rows: Sequence[Measured]) -> str:
    """A table, and what its columns are."""
    heads = {
        "image_sim": "image similarity",
        "ceiling": "references among themselves",
        "text_sim_raw": "text, without the thing",
        "text_sim_word": "text, with its word",
    }
    shown = [name for name in heads if any(getattr(row, name) is not None for row in rows)]
    lines = [["scorer", *(heads[name] for name in shown), "pictures", "references"]]
    for row in rows:
        values = [getattr(row, name) for name in shown]
        numbers = ["" if value is None else f"{value:.4f}" for value in values]
        lines.append([row.scorer, *numbers, str(row.pictures), str(row.references)])
    silent = [(row.scorer, n) for row in rows if (n := without_grade(row))]
    notes = "".join(f"{name} gave no grade for {n} pictures.\n" for name, n in silent)
    if any(is_judged(row) for row in rows):
        notes += "A judge's numbers are grades of 0 to 4 divided by 4 (docs/judging.md).\n"
    pixels = "".join(f"{row.scorer} sees: {row.pixels}\n" for row in rows if row.pixels)
    return (
        f"{aligned(lines)}\n\nPlain cosines (CLIPScore's factor of 2.5 is not in them), means over "
        f"the pictures.\n{notes}{pixels}docs/measure.md says why other pages have other numbers.\n"
    )


def is_judged(row: Measured) -> bool:
    return row.scorer.startswith(f"{JUDGE}-") and row.text_sim_raw is None


def without_grade(row: Measured) -> int:
    return sum("image_sim" not in one for one in row.each) if is_judged(row) else 0


def measure_verb(
    pictures: Sequence[str],
    references: str | None,
    prompt: str | None,
    prompts: str | None,
    word: str,
    scorers: Sequence[str],
    device: str,
    as_json: bool,
    limit: int = 0,
    cache: bool = True,
) -> str:
    """`perfbench measure`."""
    found = pictures_of(pictures, "PICTURE")
    real = pictures_of([references], "--references") if references else []
    texts = prompts_of(prompt, prompts)
    if not real and not texts:
        raise UserError("nothing to compare with: give --references, --prompt, or both")
    rows = measure(found, real, texts, word, scorers, device, limit, cache)
    if as_json:
        return json.dumps([asdict(row) for row in rows], indent=1) + "\n"
    return told(rows)
