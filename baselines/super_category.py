"""SuperCategory, the floor: nothing is trained, the concept's word is its super-category.

In: a prompt with placeholders. Out: the same prompt with ordinary words.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from perfusion_core.backbone import Backbone
from perfusion_core.errors import UserError, unknown
from perfusion_core.subject import Fitted, Subject

NAME, LABEL, VERSION = "super", "SuperCategory", 1
TRAINED, PRIOR = False, False


@dataclass(frozen=True)
class Config:
    """There is nothing to choose."""


MINIATURE = Config()


def fit(backbone: Backbone, subject: Subject, config: Config, out: Path, *, seed: int, **_: Any) -> NoReturn:
    raise UserError("super has nothing to train: it draws the super-category")


@contextmanager
def apply(backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]) -> Iterator[Callable[[str], str]]:
    """Words for placeholders; the backbone is never touched."""
    for key in point:
        raise unknown("run-time parameter of super", key, ())

    def write(text: str) -> str:
        for name, fitted in fits.items():
            text = text.replace(f"{{{name}}}", fitted.super_category)
        return text

    yield write
