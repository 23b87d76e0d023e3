"""SuperCategory, the floor: nothing is trained, the concept's word is its super-category.

In: a prompt with placeholders. Out: the same prompt with ordinary words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from perfusion_core.errors import UserError

if TYPE_CHECKING:
    from perfusion_core.backbone import Backbone
    from perfusion_core.subject import Fitted, Subject
    from perfusion_core.training import Write

NAME, LABEL, VERSION = "super", "SuperCategory", 1
TRAINED, PRIOR = False, False
TEXT_SIDE = True
SETTINGS = ()
USES_COVARIANCE = False  # no byte of it depends on C
SUMMARY = "nothing: the plain word in the concept's place"
FORMAT = "none"
STYLE = {"label": "Super-category", "colour": "#5f6368", "marker": "X", "dash": (0, (1, 2))}


@dataclass(frozen=True)
class Config:
    """There is nothing to choose."""


MINIATURE = Config()


def fit(
    backbone: Backbone, subject: Subject, config: Config, out: Path, *, seed: int, **_: Any
) -> NoReturn:
    raise UserError("super has nothing to train: it draws the super-category")


@contextmanager
def apply(
    backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]
) -> Iterator[Write]:
    """Words for placeholders; the backbone is never touched."""
    from baselines.parts import refuse_points, spelled

    refuse_points(NAME, point)
    yield spelled({name: fitted.super_category for name, fitted in fits.items()})
