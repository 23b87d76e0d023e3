"""One unit of work at a time: make class images, fit a concept, draw a cell, score a group. Models
open once a process.

In: a `Job` (what every worker knows) and a `Task`. Out: units published in a run folder, rows
handed back as events.
"""

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmarks.advice import advice
from benchmarks.disk import DiskError, full, is_full
from benchmarks.planning import methods
from benchmarks.planning.plan import prior_text
from benchmarks.planning.units import Cell, Fit, Prior, Unit
from benchmarks.running.applied import Applied, plain_words
from benchmarks.running.batch_probe import keeps_apart
from benchmarks.running.drawing_costs import DrawingCosts, measuring_device
from benchmarks.running.known_features import CannotOpen
from benchmarks.running.peak_memory import peak_above
from benchmarks.running.shared_units import SharedUnits
from benchmarks.running.tasks import (
    Event,
    Job,
    ScoringTask,
    Task,
    drawn_together,
    scored_together,
)
from benchmarks.running.worker_scores import WorkerScores
from benchmarks.scoring.similarity import read_images
from benchmarks.store.run_folder import Store
from perfusion_core.errors import UserError
from perfusion_core.guidance import per_batch, rows_a_picture
from perfusion_core.memory import keep_freed_memory, lasting
from perfusion_core.weight_digests import vae_digest


@dataclass(frozen=True)
class Drawn:
    """A cell's pictures, the size of each one's batch, the cell's share of the seconds."""

    pictures: np.ndarray
    sizes: list[int]
    seconds: float
    cut: str  # the end of the prompt that no picture has anything of


class Worker:
    """Does tasks in one process, with one backbone."""

    def __init__(self, job: Job, store: Store, say: Callable[[Event], None]) -> None:
        self.job, self.store, self.say = job, store, say
        if job.threads:
            torch.set_num_threads(job.threads)
        keep_freed_memory()
        self.lasting = ExitStack()
        torch.backends.cudnn.deterministic = True  # the same cell, the same bytes
        self.scores = WorkerScores(job, store)
        self.shared = SharedUnits(job, store, say)
        self._drawn: dict[str, Drawn] = {}  # by cell, ahead of their turns
        self.applied = Applied(store, self.method)
        config = job.config
        self.costs = DrawingCosts(
            store,
            self.applied,
            say,
            config.steps,
            config.guidance,
            config.compile,
            config.scheduler,
        )

    @cached_property
    def backbone(self) -> Any:
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging

        from perfusion_core.backbone import Backbone
        from perfusion_core.compiling import compile_backbone

        diffusers_logging.disable_progress_bar()  # one bar is enough: ours
        diffusers_logging.set_verbosity_error()  # what it says of a cut prompt, `_cut` says once
        transformers_logging.disable_progress_bar()
        models = self.job.models
        backbone = Backbone.open(
            models.place,
            device=self.job.device,
            dtype=models.dtype,
            vae=models.vae.place if models.vae else None,
        )
        vae = models.vae
        if backbone.digest != models.digest or (vae and vae_digest(Path(vae.place)) != vae.digest):
            raise UserError(
                f"the backbone {models.name} or its VAE on this machine is not the one that the "
                f"plan was made for; put the same files there"
            )
        if self.job.config.compile:
            seconds = compile_backbone(backbone, self.batch, self.rows)
            print(f"perfbench: torch.compile: warm-up took {seconds:.0f} s", file=sys.stderr)
        backbone.name = models.name
        self.lasting.enter_context(lasting())
        return backbone

    @property
    def rows(self) -> int:
        """Of the U-Net's batch."""
        return self.job.models.rows

    @property
    def batch(self) -> int:
        """Images a batch."""
        return per_batch(self.rows, self.job.config.guidance)

    @cached_property
    def apart(self) -> bool:
        """Whether this device keeps the rows of a batch apart; where not, one prompt is drawn at a
        time.
        """
        shared = self.shared
        fine = keeps_apart(self.job, self.backbone, shared.circumstances, shared.on)
        if not fine:
            print(
                f"perfbench: on {self.job.device} what is drawn beside a picture moves its low "
                f"bits; one prompt is drawn at a time",
                file=sys.stderr,
            )
        return fine

    @property
    def scorer_names(self) -> list[str]:
        return [scorer.name for scorer in self.job.models.scorers]

    def method(self, base: str) -> ModuleType:
        return methods.load_method(base, self.job.config.method_files)

    def close(self) -> None:
        """Leave the backbone as it was."""
        try:
            self.applied.close()
        finally:
            self.lasting.close()

    def do(self, task: Task) -> None:
        """Each unit is published, or its traceback is told; a disk that takes nothing more ends the
        run.
        """
        if isinstance(task, ScoringTask):
            for name in task.scorers:
                self.scores.open(name)
            self._guarded(task, lambda: self.score(task))
            return
        _ = self.backbone
        for units in drawn_together(task.units, self.batch if self.apart else 1):
            self._units(units)

    def _units(self, units: Sequence[Unit]) -> None:
        """One unit, or cells that are drawn together."""
        mine: list[Unit] = []
        try:
            mine += filter(self._claimed, units)
            cells = [u for u in mine if isinstance(u, Cell) and not self.cached(u)]
            for cell in cells:
                self.costs.measure(self.backbone, cell)
            if len(cells) > 1:
                self._draw_together(cells)
            for unit in mine:
                self._guarded(unit, partial(self.make, unit))
        finally:
            self._drawn.clear()
            for unit in mine:
                self.store.locks.unlock(unit.key)

    def _claimed(self, unit: Unit) -> bool:
        """Locked, if it is still to be made."""
        if not self.store.locks.try_lock(unit.key):
            self.say(Event("busy", unit))
            return False
        if self.store.finished(unit, self.scorer_names):  # another run in this folder was faster
            self.store.locks.unlock(unit.key)
            self.say(Event("done", unit))
            return False
        self.say(Event("begin", unit))
        return True

    def _guarded(self, unit: Unit | ScoringTask, act: Callable[[], None]) -> None:
        try:
            act()
        except (DiskError, CannotOpen):
            raise
        # whatever a method raises: told with its traceback, the other units go on
        except Exception as error:
            self.applied.close()
            if is_full(error):
                raise full(self.store.root) from error
            text = "".join(traceback.format_exception(error)).rstrip()
            more = f"; {told}" if (told := advice(error)) else ""
            self.say(Event("failed", unit, text=f"{text}{more}\n"))

    def cached(self, unit: Unit) -> bool:
        """Whether it need not be drawn: an earlier run of this machine did."""
        return self.shared.has(unit)

    def make(self, unit: Unit) -> None:
        """Taken from the cache of earlier runs, or made here."""
        started = time.monotonic()
        if taken := self.shared.take(unit):
            seconds = time.monotonic() - started
        else:
            seconds = self._made(unit, started)
            self.shared.put(unit)
        images = 0 if isinstance(unit, Fit) else len(unit.seeds)
        self.say(Event("done", unit, seconds=seconds, images=images, taken=taken))

    def _made(self, unit: Unit, started: float) -> float:
        """Made and published; -> the seconds it took."""
        make = {Prior: self.prior, Fit: self.fit, Cell: self.cell}[type(unit)]
        with self.store.aside(unit.key, resume=isinstance(unit, Fit)) as out:
            about = make(unit, out)  # type: ignore[operator]
            seconds = time.monotonic() - started
            if unit.key in self._drawn:
                seconds += self._drawn[unit.key].seconds
            self.store.publish(unit, out, {"seconds": round(seconds, 3), **about})
        return seconds

    # ---- priors and fits ----

    def prior(self, prior: Prior, out: Path) -> dict[str, Any]:
        from perfusion_core.sampling import prepared

        self.applied.close()
        text, seeds = prior_text(prior.super_category), prior.seeds
        wanted = prepared(self.backbone, [text] * len(seeds), seeds, self.job.config.guidance)
        sizes: list[int] = []
        for start in range(0, len(seeds), self.batch):
            pictures, some = self._pictures(wanted[start : start + self.batch], self.rows)
            for n, picture in enumerate(pictures, start):
                Image.fromarray(picture).save(out / f"{n}.png")
            sizes += some
        return {
            "super_category": prior.super_category,
            "text": text,
            "images": len(seeds),
            **_split(sizes, self.batch),
        }

    def fit(self, fit: Fit, out: Path) -> dict[str, Any]:
        assert fit.given is None, "what is given is copied by the driver (given_files.py)"
        self.applied.close()
        module = self.method(fit.method)
        prior = _arrays(self.store.folder(fit.prior)) if fit.prior else None
        cuda = self.backbone.device.type == "cuda"
        subject, validate = self.subject(fit), self.validation(fit)
        with peak_above(self.backbone.device) as peak:
            told = module.fit(
                self.backbone,
                subject,
                module.Config(**fit.config),
                out,
                seed=fit.seed,
                prior=prior,
                validate=validate,
                keep=fit.keep,
                progress=lambda step, steps, loss: self.say(
                    Event(
                        "step",
                        fit,
                        share=step / steps,
                        text=f"step {step} of {steps}",
                        step=step,
                        numbers={"loss": loss},
                    )
                ),
            )
        memory = (
            {"peak_memory_bytes": torch.cuda.max_memory_allocated(self.backbone.device)}
            if cuda
            else {}
        )
        return {
            **told,
            **memory,
            **peak.told(),
            "device": measuring_device(self.backbone.device),
            "method": fit.method,
            "concept": fit.concept,
            "config": dict(fit.config),
        }

    def validation(self, fit: Fit) -> Any:
        """What picks its training step, if anything does."""
        if not fit.select:
            return None
        text_side = methods.said(fit.method, self.job.config.method_files).text_side
        found = self.scores.validation(fit, self.backbone, together=text_side and self.apart)
        return replace(found, told=partial(self._looked, fit)) if self.job.watched else found

    def _looked(self, fit: Fit, step: int, score: float, images: np.ndarray) -> None:
        """Validation pictures for who watches."""
        from benchmarks.running.training_log import packed

        numbers = {"score": score}
        self.say(Event("look", fit, step=step, numbers=numbers, pictures=packed(images)))

    def subject(self, fit: Fit) -> Any:
        from perfusion_core.subject import Subject

        folder = self.store.concept(fit.concept)
        masks = _arrays(folder / "masks")[..., 0] if (folder / "masks").is_dir() else None
        asymmetric = fit.concept in self.job.asymmetric
        frames = self.job.frames.get(fit.concept)
        return Subject.of_pixels(
            fit.concept, fit.super_category, _arrays(folder), masks, asymmetric, frames
        )

    # ---- cells ----

    def cell(self, cell: Cell, out: Path) -> dict[str, Any]:
        drawn = self._drawn.get(cell.key) or self._draw([cell])[0]
        usual = per_batch(self._rows(len(drawn.sizes)), self.job.config.guidance)
        for index, (picture, seed) in enumerate(zip(drawn.pictures, cell.seeds)):
            about = PngInfo()
            for key, value in {"prompt": cell.template, "seed": str(seed), "key": cell.key}.items():
                about.add_text(key, value)
            Image.fromarray(picture).save(out / f"{index}.png", pnginfo=about)
        return {
            "template": cell.template,
            "text": cell.text,
            "seeds": cell.seeds,
            **_split(drawn.sizes, usual),
            **({"cut": drawn.cut} if drawn.cut else {}),
        }

    def _cut(self, cell: Cell, text: str) -> str:
        """What the text encoder does not read of the text as a method writes it, told once."""
        if rest := self.backbone.text.unread(plain_words(cell, text)):
            told = f"prompt {cell.prompt_id} is longer than the text encoder reads; not drawn: "
            self.say(Event("note", cell, text=f"{told}{rest!r:.99}"))
        return rest

    def _draw_together(self, cells: Sequence[Cell]) -> None:
        """What fails is drawn again cell by cell, so that each one's failure is its own."""
        try:
            drawn = self._draw(cells)
        except Exception:
            self.applied.close()
            return
        self._drawn.update((cell.key, one) for cell, one in zip(cells, drawn))

    def _draw(self, cells: Sequence[Cell]) -> list[Drawn]:
        """Cells of several points only where their method reaches a picture through its text alone:
        then what is applied at the end has no part in it.
        """
        from perfusion_core.sampling import Picture, prepared

        started, wanted, cut = time.monotonic(), list[Picture](), list[str]()
        for cell in cells:
            text = self.applied.write(self.backbone, cell)(cell.template)
            cut.append(self._cut(cell, text))
            wanted += prepared(
                self.backbone, [text] * len(cell.seeds), cell.seeds, self.job.config.guidance
            )
            if cell.text_side:
                self.applied.refuse_unread(cell)
        pictures, sizes = self._pictures(wanted, self._rows(len(wanted)))
        self.applied.refuse_unread(cells[-1])
        each, drawn, n = (time.monotonic() - started) / len(cells), list[Drawn](), 0
        for cell, rest in zip(cells, cut):
            mine = slice(n, n := n + len(cell.seeds))
            drawn.append(Drawn(pictures[mine], sizes[mine], each, rest))
        return drawn

    def _rows(self, images: int) -> int:
        """Of the batch that draws so many: the protocol's. Where rows are not kept apart, as many
        as one prompt has of its own: filling up would keep no bytes equal.
        """
        if self.apart or self.job.config.compile:  # compiled code is of one shape
            return self.rows
        return min(self.rows, rows_a_picture(self.job.config.guidance) * images)

    def _pictures(self, wanted: Sequence[Any], rows: int) -> tuple[np.ndarray, list[int]]:
        """Drawn in batches of one shape; the size of each one's batch."""
        from perfusion_core.memory import draw_what_fits
        from perfusion_core.sampling import Manner

        config = self.job.config
        return draw_what_fits(
            self.backbone,
            wanted,
            steps=config.steps,
            guidance=config.guidance,
            rows=rows,
            how=Manner(config.scheduler),
        )

    def score(self, task: ScoringTask) -> None:
        """In parts, each told as soon as it is there: an interrupted one is not done again."""
        for part in scored_together(task):
            started = time.monotonic()
            rows = self.scores.rows(part)
            self.say(Event("rows", part, seconds=time.monotonic() - started, rows=rows))


def _split(sizes: Sequence[int], usual: int) -> dict[str, Any]:
    """For a manifest: memory did not suffice, and the byte guarantee ends here."""
    return {"batches": list(sizes)} if set(sizes) != {usual} else {}


def _arrays(folder: Path) -> np.ndarray:
    """uint8 [n, H, W, 3]"""
    return np.stack([np.asarray(picture) for picture in read_images(folder)])
