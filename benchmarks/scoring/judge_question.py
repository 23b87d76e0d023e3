"""What a judge is asked, and what counts as an answer.

In: a picture, reference pictures, a prompt. Out: messages of a chat; two grades of 0 to 4, or None.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.digests import digest
from benchmarks.paths import data_dir

if TYPE_CHECKING:
    from PIL import Image

BEST = 4
REFERENCES = 8  # at most; the first ones
SIDE = 768  # pixels of the longer side that is sent; a smaller picture is sent as it is
LAYOUT = 1  # of the messages below


class Grades(NamedTuple):
    """Whole numbers, 0 to 4."""

    subject: int
    prompt: int


@dataclass(frozen=True)
class Shown:
    """A picture, a file or RGB, and the sha256 of its bytes."""

    picture: "Path | Image.Image" = field(compare=False)
    sha256: str


@cache
def instructions() -> str:
    """prompts/judge.txt"""
    return (data_dir("prompts") / "judge.txt").read_text(encoding="utf-8")


def prompt_digest() -> str:
    """Of all that is the same in every question."""
    return digest({"text": instructions(), "side": SIDE, "references": REFERENCES, "of": LAYOUT})


def key_parts(
    model: str, picture: Shown, references: Sequence[Shown], text: str
) -> dict[str, str | list[str]]:
    """All that decides an answer, without a word of it."""
    return {
        "model": model,
        "prompt": digest([prompt_digest(), text]),
        "picture": picture.sha256,
        "references": digest([one.sha256 for one in references[:REFERENCES]]),
    }


def messages(picture: Shown, references: Sequence[Shown], text: str) -> list[dict[str, Any]]:
    """One message of a user: instructions, references, the prompt as a JSON string, the picture."""
    parts = [_said(instructions()), _said("The reference pictures:")]
    parts += [_image(one) for one in references[:REFERENCES]]
    parts += [_said(f"The prompt: {json.dumps(text)}"), _said("The picture:"), _image(picture)]
    return [{"role": "user", "content": parts}]


def _said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(shown: Shown) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(shown)}}


@lru_cache(maxsize=32)
def data_url(shown: Shown) -> str:
    """Its pixels alone: a file's notes may name the method, the seed or a place on a map."""
    from benchmarks.suite.image_files import load_image

    picture, content = shown.picture, io.BytesIO()
    picture = load_image(picture) if isinstance(picture, Path) else picture.copy()
    picture.thumbnail((SIDE, SIDE))  # never larger
    picture.info.clear()
    picture.save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def grades_of(text: str) -> Grades | None:
    """Of an answer: one JSON object with these two whole numbers and nothing else."""
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return checked(found)


def checked(found: Any) -> Grades | None:
    if not isinstance(found, Mapping) or set(found) != set(Grades._fields):
        return None
    if not all(type(grade) is int and 0 <= grade <= BEST for grade in found.values()):
        return None
    return Grades(**found)


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)
