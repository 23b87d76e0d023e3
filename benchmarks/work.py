"""One unit of work at a time: make class images, fit a concept, draw a cell, score a group. Models open once a process.

In: a `Job` (what every worker knows) and a `Task`. Out: units published in a run folder, rows handed back as events.
"""

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmarks import methods, score
from benchmarks.catalog import Prompt, fill, leave_out
from benchmarks.config import Config
from benchmarks.disk import DiskError, full, is_full
from benchmarks.models import Models
from benchmarks.plan import prior_text, seed_of
from benchmarks.scorers import of_concept, open_scorer
from benchmarks.store import Store
from benchmarks.tasks import Event, Group, Task
from benchmarks.units import Cell, Fit, Prior, Unit
from perfusion_core.errors import UserError

PRIOR_BATCH = 8  # always the same, so that no byte depends on memory or workers


@dataclass(frozen=True)
class Job:
    """What every worker knows; travels by pickle to processes and nodes of ours."""

    config: Config
    models: Models
    asymmetric: frozenset[str]  # concepts that are never flipped
    validation: tuple[Prompt, ...]
    every_prompt: bool  # image similarity on all prompts (other suites), not only on the shape-preserving ones
    device: str = "cpu"
    threads: int = 0


class Worker:
    """Does tasks in one process, with one backbone."""

    def __init__(self, job: Job, store: Store, say: Callable[[Event], None]) -> None:
        self.job, self.store, self.say = job, store, say
        if job.threads:
            torch.set_num_threads(job.threads)
        torch.backends.cudnn.deterministic = True  # the same cell, the same bytes
        self._scorers: dict[str, score.Model] = {}
        self._features: dict[tuple[str, str], np.ndarray] = {}
        self._plain: dict[str, float] = {}  # raw text similarity of plain pictures, by super-category
        self._applied: tuple[object, Callable[[str], str]] | None = None
        self._stack = ExitStack()

    @cached_property
    def backbone(self) -> Any:
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging

        from perfusion_core.backbone import Backbone

        diffusers_logging.disable_progress_bar()  # one bar is enough: ours
        transformers_logging.disable_progress_bar()
        models = self.job.models
        backbone = Backbone.open(models.place, device=self.job.device, dtype=models.dtype)
        if backbone.digest != models.digest:
            raise UserError(f"the backbone {models.name} is another one on this machine than the plan was made for")
        if self.job.config.compile:
            seconds = backbone.compile(self.job.config.images)
            print(f"perfbench: torch.compile: warm-up took {seconds:.0f} s", file=sys.stderr)
        backbone.name = models.name
        return backbone

    @property
    def scorer_names(self) -> list[str]:
        return [scorer.name for scorer in self.job.models.scorers]

    def method(self, base: str) -> ModuleType:
        return methods.load(base, self.job.config.method_files)

    def close(self) -> None:
        """Leave the backbone as it was."""
        self._applied = None
        self._stack.close()

    def do(self, task: Task) -> None:
        """Each unit is published, or its traceback is told; a disk that takes nothing more ends the run."""
        if isinstance(task, Group):
            for name in task.scorers:
                self.scorer(name)  # outside the guard: without it nothing can be scored
            self._guarded(task, lambda: self.score(task))
            return
        _ = self.backbone
        for unit in task.units:
            self._unit(unit)

    def _unit(self, unit: Unit) -> None:
        if not self.store.locks.try_lock(unit.key):
            self.say(Event("busy", unit))
            return
        try:
            if self.store.finished(unit, self.scorer_names):  # another run in this folder was faster
                self.say(Event("done", unit))
                return
            self.say(Event("begin", unit))
            self._guarded(unit, lambda: self.make(unit))
        finally:
            self.store.locks.unlock(unit.key)

    def _guarded(self, unit: Unit | Group, act: Callable[[], None]) -> None:
        try:
            act()
        except DiskError:
            raise
        except Exception as error:  # whatever a method raises: told with its traceback, the other units go on
            self.close()
            if is_full(error):
                raise full(self.store.root) from error
            self.say(Event("failed", unit, text="".join(traceback.format_exception(error))))

    def make(self, unit: Unit) -> None:
        started = time.monotonic()
        make = {Prior: self.prior, Fit: self.fit, Cell: self.cell}[type(unit)]
        with self.store.aside(unit.key, resume=isinstance(unit, Fit)) as out:
            about = make(unit, out)  # type: ignore[operator]
            seconds = time.monotonic() - started
            self.store.publish(unit, out, {"seconds": round(seconds, 3), **about})
        self.say(Event("done", unit, seconds=seconds, images=0 if isinstance(unit, Fit) else len(unit.seeds)))

    # ---- priors and fits ----

    def prior(self, prior: Prior, out: Path) -> dict[str, Any]:
        from perfusion_core.memory import draw

        self.close()
        config, text, batches, n = self.job.config, prior_text(prior.super_category), list[int](), 0
        starts = range(0, len(prior.seeds), PRIOR_BATCH)
        for start in starts:
            seeds = prior.seeds[start : start + PRIOR_BATCH]
            pictures, sizes = draw(self.backbone, text, seeds, steps=config.steps, guidance=config.guidance)
            batches += sizes
            for picture in pictures:
                Image.fromarray(picture).save(out / f"{n}.png")
                n += 1
        split = {"batches": batches} if len(batches) > len(starts) else {}  # out of memory: as in a cell
        return {"super_category": prior.super_category, "text": text, "images": n, **split}

    def fit(self, fit: Fit, out: Path) -> dict[str, Any]:
        assert fit.given is None, "what is given is copied by the driver (given.py)"
        self.close()
        module = self.method(fit.method)
        prior = _arrays(self.store.folder(fit.prior)) if fit.prior else None
        cuda = self.backbone.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.backbone.device)  # a worker's GPU need not be the first
        told = module.fit(
            self.backbone,
            self.subject(fit),
            module.Config(**fit.config),
            out,
            seed=fit.seed,
            prior=prior,
            validate=self.validation(fit) if fit.select else None,
            keep=fit.keep,
            progress=lambda step, steps, loss: self.say(Event("step", fit, text=f"{step}/{steps} loss {loss:.3f}")),
        )
        memory = {"peak_memory_bytes": torch.cuda.max_memory_allocated(self.backbone.device)} if cuda else {}
        return {**told, **memory, "method": fit.method, "concept": fit.concept, "config": dict(fit.config)}

    def subject(self, fit: Fit) -> Any:
        from perfusion_core.sampling import as_float
        from perfusion_core.subject import Subject

        folder = self.store.concept(fit.concept)
        masks = None
        if (folder / "masks").is_dir():
            masks = torch.from_numpy(_arrays(folder / "masks")[..., 0]).unsqueeze(1).float() / 255
        asymmetric = fit.concept in self.job.asymmetric
        return Subject(fit.concept, fit.super_category, as_float(_arrays(folder)), masks, asymmetric)

    def validation(self, fit: Fit) -> Any:
        """The score that picks training steps: by a scorer that is never reported."""
        from perfusion_core.training import Validation

        config, prompts = self.job.config, self.job.validation
        seeds = [seed_of(config.seed, fit.super_category, f"validation-{prompt.id}", 0) for prompt in prompts]
        texts = [leave_out(prompt.template) for prompt in prompts]
        real = self.features(self.job.models.selector.name, fit.concept)
        floor = self.plain(fit.super_category, seeds)

        def measure(pictures: np.ndarray) -> float:
            image, text = self._similarities(pictures, texts, real)
            return harmonic(image, text / floor) if floor > 0 else image

        return Validation(
            templates=tuple(prompt.template for prompt in prompts),
            seeds=tuple(seeds),
            score=measure,
            every=config.validate_every,
            steps=config.steps,
            guidance=config.guidance,
        )

    def plain(self, super_category: str, seeds: Sequence[int]) -> float:
        """Raw text similarity of what the backbone alone draws for the validation prompts; once a super-category."""
        from perfusion_core.memory import draw

        if super_category not in self._plain:
            config, prompts = self.job.config, self.job.validation
            texts = [fill(prompt.template, super_category) for prompt in prompts]
            pictures, _ = draw(self.backbone, texts, seeds, steps=config.steps, guidance=config.guidance)
            bare = [leave_out(prompt.template) for prompt in prompts]
            self._plain[super_category] = self._similarities(pictures, bare, None)[1]
        return self._plain[super_category]

    def _similarities(self, pictures: np.ndarray, texts: Sequence[str], real: np.ndarray | None) -> tuple[float, float]:
        model = self.scorer(self.job.models.selector.name)
        assert model.text, "picking training steps needs a scorer that knows texts"
        features = model.images([Image.fromarray(picture) for picture in pictures])
        text = np.mean([feature @ model.text(text) for feature, text in zip(features, texts)])
        image = 0.0 if real is None else float(score.image_similarity(features, real).mean())
        return image, float(text)

    # ---- cells ----

    def cell(self, cell: Cell, out: Path) -> dict[str, Any]:
        from perfusion_core.memory import draw

        config = self.job.config
        text = self.write(cell)(cell.template)
        pictures, batches = draw(self.backbone, text, cell.seeds, steps=config.steps, guidance=config.guidance)
        for index, (picture, seed) in enumerate(zip(pictures, cell.seeds)):
            about = PngInfo()
            for key, value in {"prompt": cell.template, "seed": str(seed), "key": cell.key}.items():
                about.add_text(key, value)
            Image.fromarray(picture).save(out / f"{index}.png", pnginfo=about)
        split = {"batches": batches} if len(batches) > 1 else {}  # out of memory: the byte guarantee ends here
        return {"template": cell.template, "text": cell.text, "seeds": cell.seeds, **split}

    def write(self, cell: Cell) -> Callable[[str], str]:
        """Apply the cell's fits at its point; what was applied for the cell before is kept where it is the same."""
        from perfusion_core.subject import Fitted

        same = (cell.base, tuple(fit.key for fit in cell.fits), cell.step, tuple(cell.settings.items()), cell.concepts)
        if self._applied is None or self._applied[0] != same:
            self.close()
            folders = [self._fit_folder(fit, cell.step) for fit in cell.fits] or [self.store.root] * len(cell.concepts)
            fits = {n: Fitted(f, s) for n, f, s in zip(cell.concepts, folders, cell.super_categories)}
            write = self._stack.enter_context(self.method(cell.base).apply(self.backbone, fits, dict(cell.settings)))
            self._applied = same, write
        return self._applied[1]

    def _fit_folder(self, fit: Fit, step: int) -> Path:
        folder = self.store.folder(fit)
        return folder / f"step-{step}" if step else folder

    # ---- scores ----

    def scorer(self, name: str) -> score.Model:
        if name not in self._scorers:
            models = self.job.models
            known = {scorer.name: scorer for scorer in (*models.scorers, models.selector)}
            self._scorers[name] = open_scorer(known[name], self.job.device)
        return self._scorers[name]

    def features(self, scorer: str, concept: str) -> np.ndarray:
        """Of a concept's images, [m, d]; once a process."""
        if (scorer, concept) not in self._features:
            pictures = score.read_images(self.store.concept(concept))
            self._features[scorer, concept] = of_concept(self.scorer(scorer), pictures)
        return self._features[scorer, concept]

    def score(self, group: Group) -> None:
        """Rows of a group's cells from every scorer that has none yet; each image is read once."""
        started = time.monotonic()
        rows: dict[str, list[score.Row]] = {scorer: [] for scorer in group.scorers}
        concepts = group.concept.split("+")
        if group.real:
            for scorer in group.scorers:
                features = self.features(scorer, group.concept)
                rows[scorer] = score.score_real(group.key, group.concept, group.group, features)
        for cell in group.cells:
            folder = self.store.images(group.method, group.point, group.concept, cell["prompt_id"])
            pictures = score.read_images(folder)
            for scorer in group.scorers:
                real = [self.features(scorer, concept) for concept in concepts]
                rows[scorer] += score.score_cell(self.scorer(scorer), cell, pictures, real, self.job.every_prompt)
        self.say(Event("rows", group, seconds=time.monotonic() - started, rows=rows))


def harmonic(a: float, b: float) -> float:
    """2ab/(a+b); a cosine that is not positive counts as itself, so that the worst is never the best."""
    return 2 * a * b / (a + b) if a > 0 and b > 0 else min(a, b)


def _arrays(folder: Path) -> np.ndarray:
    """uint8 [n, H, W, 3]"""
    return np.stack([np.asarray(picture) for picture in score.read_images(folder)])
