"""What scorers say, once a process each: rows of a group of cells, and the score that picks a fit's
training steps.

In: a `Job`, a run folder. Out: rows; a `Validation` for a fit. All it draws are plain words, by the
backbone alone.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmarks.disk import read_manifest
from benchmarks.planning.config import look_steps
from benchmarks.planning.plan import seed_of
from benchmarks.planning.units import Fit
from benchmarks.running.known_features import KnownFeatures, LazyScorer, known_features
from benchmarks.running.subject_scores import SubjectScores
from benchmarks.running.tasks import Job, ScoringTask
from benchmarks.scoring import similarity
from benchmarks.scoring.calls import Calls, Stopped
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.drift_scores import drift_rows
from benchmarks.scoring.lookup import JUDGE
from benchmarks.scoring.read_pictures import ReadPictures, read_folder
from benchmarks.scoring.scorers import Model
from benchmarks.store.run_folder import Store
from benchmarks.suite.catalog import fill, leave_out
from benchmarks.tables.statistics import harmonic, relative_text
from perfusion_core.guidance import rows_a_picture

if TYPE_CHECKING:
    from benchmarks.scoring.judge import Judge


class WorkerScores:
    """The scorers of one worker, and the features of the concepts that they have seen."""

    def __init__(self, job: Job, store: Store) -> None:
        self.job, self.store = job, store
        self._scorers: dict[str, LazyScorer] = {}
        self._features: dict[tuple[str, str], np.ndarray] = {}
        self._heldout: dict[tuple[str, str], np.ndarray | None] = {}
        # the plain backbone's pictures by prompt, and their features by scorer and prompt
        self._plain_pictures: dict[str, ReadPictures] = {}
        self._undrifted: dict[tuple[str, str], np.ndarray] = {}
        self._judges: dict[str, Judge] = {}
        # raw text similarity of plain pictures, by super-category
        self._plain: dict[str, float] = {}

    @cached_property
    def known(self) -> KnownFeatures:
        """What was made of pictures and texts before, by whichever run."""
        return known_features(self.job.config.cache, self.job.device)

    @cached_property
    def subject(self) -> SubjectScores:
        """Of the thing without its background."""
        reported = self.job.models.scorers[0].name if self.job.models.scorers else ""
        return SubjectScores(self.store, self.job.segmenter, reported, self.job.device, self.lazy)

    def lazy(self, name: str) -> LazyScorer:
        """By what is known where it is known."""
        if name not in self._scorers:
            models = self.job.models
            known = {scorer.name: scorer for scorer in (*models.scorers, models.selector)}
            self._scorers[name] = LazyScorer(known[name], self.job.device, self.known)
        return self._scorers[name]

    def scorer(self, name: str) -> Model:
        """The model itself; once a process."""
        return self.lazy(name).model

    def open(self, name: str) -> None:
        """A judge; once a process. Models of vectors are opened when they are needed."""
        scorer = next((one for one in self.job.models.scorers if one.name == name), None)
        if scorer and scorer.kind == JUDGE and name not in self._judges:
            from benchmarks.running.judged_cells import known_answers
            from benchmarks.scoring.judge import Judge

            calls = self.job.calls or Calls(0)
            self._judges[name] = Judge(scorer, calls, known_answers(self.job.config.cache))

    def features(self, scorer: str, concept: str) -> np.ndarray:
        """Of a concept's images, [m, d]; once a process."""
        if (scorer, concept) not in self._features:
            pictures = read_folder(self.store.concept(concept))
            self._features[scorer, concept] = self.lazy(scorer).concept(pictures)
        return self._features[scorer, concept]

    def heldout(self, scorer: str, concept: str) -> np.ndarray | None:
        """The same of its held-out pictures; None where it has none."""
        if (scorer, concept) not in self._heldout:
            pictures = read_folder(self.store.heldout(concept))
            found = self.lazy(scorer).concept(pictures) if pictures else None
            self._heldout[scorer, concept] = found
        return self._heldout[scorer, concept]

    def rows(self, task: ScoringTask) -> dict[str, list[similarity.Row]]:
        """Of a task's cells from every scorer that has none yet; each image is read once, and
        decoded once where one of them does not know it."""
        rows: dict[str, list[similarity.Row]] = {scorer: [] for scorer in task.scorers}
        concepts = task.concept.split("+")
        for scorer in task.scorers:
            self.open(scorer)
        if task.real:
            for scorer in task.scorers:
                rows[scorer] = self._real(scorer, task)
        for cell in task.cells:
            folder = self.store.images(*cell.address, cell.prompt_id)
            pictures = read_folder(folder)
            about = read_manifest(folder / "cell.json") or {}
            told = bool(about.get("cut")), bool(about.get("unpaired"))
            every = self.job.every_prompt
            if cell.drifts:
                for scorer, found in self._drift(task.scorers, cell, pictures, told[0]).items():
                    rows[scorer] += found
                continue
            for scorer in task.scorers:
                if scorer in self._judges:
                    rows[scorer] += self._judged(scorer, cell, pictures, every)
                    continue
                real = [self.features(scorer, concept) for concept in concepts]
                apart = self.heldout(scorer, concepts[0]) if len(concepts) == 1 else None
                mine = similarity.score_cell(
                    self.lazy(scorer), cell, pictures, real, every, *told, apart
                )
                self.subject.add(mine, scorer, cell, pictures)
                rows[scorer] += mine
        # a judge that stopped before the first of them leaves no file
        return {name: mine for name, mine in rows.items() if mine or name not in self._judges}

    def _drift(
        self,
        scorers: Sequence[str],
        cell: CellRow,
        pictures: Sequence[Image.Image],
        cut: bool,
    ) -> dict[str, list[similarity.Row]]:
        """Rows of a cell that measures drift, by scorer; judges are not asked."""
        if cell.prompt_id not in self._plain_pictures:
            folder = self.store.plain_images(cell.prompt_id)
            self._plain_pictures[cell.prompt_id] = read_folder(folder)
        plain, found = self._plain_pictures[cell.prompt_id], {}
        for scorer in scorers:
            features = None
            if scorer not in self._judges:
                model, place = self.lazy(scorer), (scorer, cell.prompt_id)
                if place not in self._undrifted:
                    self._undrifted[place] = model.images(plain)
                features = model.images(pictures), self._undrifted[place]
            found[scorer] = drift_rows(cell, pictures, plain, features, cut)
        return found

    def _real(self, scorer: str, task: ScoringTask) -> list[similarity.Row]:
        """A judge is not asked of a concept's own pictures: it has no ceiling."""
        if scorer not in self._judges:
            real, apart = self.features(scorer, task.concept), self.heldout(scorer, task.concept)
            rows = similarity.score_real(task.key, task.concept, task.group, real, apart)
            self.subject.add_real(rows, scorer, task.concept)
            return rows
        images = len(similarity.read_images(self.store.concept(task.concept)))
        return similarity.real_rows(task.key, task.concept, task.group, np.full(images, np.nan))

    def _judged(
        self,
        scorer: str,
        cell: CellRow,
        pictures: Sequence[Image.Image],
        every: bool,
    ) -> list[similarity.Row]:
        """Rows of a whole cell; none once nothing more may be asked."""
        from benchmarks.running.judged_cells import graded, references_in, shown_in

        shown = shown_in(self.store.images(*cell.address, cell.prompt_id))
        similarity.refuse_others(cell, min(len(pictures), len(shown)))
        concepts = [references_in(self.store.root, name) for name in cell.concept.split("+")]
        try:
            images, texts = graded(self._judges[scorer], cell, shown, concepts)
        except Stopped:
            return []
        return similarity.cell_rows(cell, pictures, images, texts, every)

    def validation(self, fit: Fit, backbone: Any, together: bool = False) -> Any:
        """The score that picks training steps, by a scorer that is never reported: the table's
        harmonic mean.

        It is 0 where a cosine is not positive, so such a step never beats one where both are; of
        equal ones the first is kept. Where plain words do not fit their own prompts, the image
        similarity alone decides. `together`: several looks may share a batch.
        """
        from perfusion_core.training import Validation

        config, prompts = self.job.config, self.job.validation
        rows, many = self._batch(together)
        seeds = [
            seed_of(config.seed, fit.super_category, f"validation-{prompt.id}", 0)
            for prompt in prompts
        ]
        texts = [leave_out(prompt.template) for prompt in prompts]
        real = self.features(self.job.models.selector.name, fit.concept)[
            : fit.config.get("images") or None
        ]
        floor = self._floor(backbone, fit.super_category, seeds)

        def measure(pictures: np.ndarray) -> float:
            image, text = self._similarities(pictures, texts, real)
            return float(harmonic(image, relative_text(text, floor))) if floor > 0 else image

        return Validation(
            templates=tuple(prompt.template for prompt in prompts),
            seeds=tuple(seeds),
            score=measure,
            every=config.validate_every,
            steps=look_steps(config),
            guidance=config.guidance,
            rows=rows,
            at_once=many,
            scheduler=config.scheduler,
        )

    def _batch(self, together: bool) -> tuple[int, int]:
        """Rows of a batch of validation, and how many looks it holds: all prompts of one at least,
        which are always the same, so that nothing is filled up.
        """
        look = rows_a_picture(self.job.config.guidance) * len(self.job.validation)
        many = max(1, self.job.models.rows // look) if together else 1
        return min(self.job.models.rows, many * look), many

    def _floor(self, backbone: Any, super_category: str, seeds: Sequence[int]) -> float:
        """Raw text similarity of what the backbone alone draws for the validation prompts; once a
        super-category.
        """
        from perfusion_core.memory import draw_what_fits
        from perfusion_core.sampling import Manner, prepared

        if super_category not in self._plain:
            config, prompts = self.job.config, self.job.validation
            texts = [fill(prompt.template, super_category) for prompt in prompts]
            pictures, _ = draw_what_fits(
                backbone,
                prepared(backbone, texts, seeds, config.guidance),
                steps=look_steps(config),
                guidance=config.guidance,
                rows=self._batch(False)[0],
                how=Manner(config.scheduler),
            )
            bare = [leave_out(prompt.template) for prompt in prompts]
            self._plain[super_category] = self._similarities(pictures, bare, None)[1]
        return self._plain[super_category]

    def _similarities(
        self, pictures: np.ndarray, texts: Sequence[str], real: np.ndarray | None
    ) -> tuple[float, float]:
        model = self.scorer(self.job.models.selector.name)
        assert model.text, "picking training steps needs a scorer that knows texts"
        features = model.images([Image.fromarray(picture) for picture in pictures])
        text = np.mean([feature @ model.text(text) for feature, text in zip(features, texts)])
        image = 0.0 if real is None else float(similarity.image_similarity(features, real).mean())
        return image, float(text)
