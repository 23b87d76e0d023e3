"""Which training step is best: pictures of a few prompts, drawn on the way, and a score of them.

In: the state of a training, every so many steps. Out: the best one's files, and the curve in the
log. Looks wait until they fill a batch, where a method reaches a picture through its text alone:
what they are drawn from is fixed when they are taken.
"""

import math
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perfusion_core.backbone import Backbone
from perfusion_core.errors import NotFinite
from perfusion_core.memory import draw_what_fits
from perfusion_core.sampling import Manner, Picture, prepared
from perfusion_core.schedulers import DDIM

Write = Callable[[str], str]


class Diverged(NotFinite):
    """Training has left the finite numbers."""


@dataclass(frozen=True)
class Validation:
    """How the best step is found: pictures of `templates`, and a score of them that only the caller
    knows.
    """

    templates: tuple[str, ...]  # "A {} in a garden"
    seeds: tuple[int, ...]
    # of uint8 [n, H, W, 3], in the templates' order; higher is better
    score: Callable[[np.ndarray], float]
    every: int = 25
    steps: int = 50
    guidance: float = 6.0
    rows: int = 0  # of the U-Net's batch; 0: all pictures in one
    at_once: int = 1  # looks that are drawn together
    scheduler: str = DDIM  # of schedulers.SCHEDULERS
    # who watches: the step, its score, its pictures
    told: Callable[[int, float, np.ndarray], None] | None = None


@dataclass
class Look:
    """One step's pictures to be drawn, and where its files wait."""

    step: int
    pictures: Sequence[Picture]
    folder: Path | None  # None: they are written when it is found to be the best


class Looks:
    """The looks of one training."""

    def __init__(
        self,
        backbone: Backbone,
        validate: Validation,
        current: Callable[[], AbstractContextManager[Write]],
        log: Any,
        out: Path,
        save: Callable[[Path], None],
    ) -> None:
        self.backbone, self.validate, self.current = backbone, validate, current
        self.log, self.out, self.save = log, out, save
        self.waiting: list[Look] = []

    def look(self, step: int) -> None:
        """At the present state; drawn now, or with the next ones."""
        validate = self.validate
        with self.current() as write:
            texts = [write(template) for template in validate.templates]
            pictures = prepared(self.backbone, texts, validate.seeds, validate.guidance)
            if validate.at_once == 1:
                self.waiting = [Look(step, pictures, None)]
                self.judge()
                return
        self.waiting.append(Look(step, pictures, self.out / f"look-{step}"))
        self.save(self.out / f"look-{step}")
        if len(self.waiting) == validate.at_once:
            self.judge()

    def judge(self) -> None:
        """Draw what waits, score it, and keep the best state so far."""
        looks, self.waiting = self.waiting, []
        if not looks:
            return
        validate, many = self.validate, len(self.validate.templates)
        try:
            images, _ = draw_what_fits(
                self.backbone,
                [picture for look in looks for picture in look.pictures],
                steps=validate.steps,
                guidance=validate.guidance,
                rows=validate.rows,
                how=Manner(validate.scheduler),
            )
        except NotFinite as error:
            steps = " or ".join(str(look.step) for look in looks)
            raise Diverged(
                f"the validation pictures of step {steps} are not finite; lower the learning rate"
            ) from error
        for number, look in enumerate(looks):
            score = float(validate.score(images[number * many : (number + 1) * many]))
            if not math.isfinite(score):
                raise Diverged(
                    f"the validation score is {score} at step {look.step}; lower the learning rate"
                )
            self.log.validation.append((look.step, score))
            if validate.told:
                validate.told(look.step, score, images[number * many : (number + 1) * many])
            if self.log.best is None or score > self.log.best[1]:
                self.log.best = (look.step, score)
                self.keep(look)

    def keep(self, look: Look) -> None:
        if look.folder is None:
            self.save(self.out)
            return
        for path in sorted(look.folder.iterdir()):
            os.replace(path, self.out / path.name)

    def finish(self) -> None:
        """All are judged; nothing is left of those that were not kept."""
        self.judge()
        for folder in self.out.glob("look-*"):
            shutil.rmtree(folder)
