"""What trackers are told of a run: curves, validation pictures, tables.

In: a plan, events of workers, fits as they were published, tables. Out: calls of `Tracker`s. It
only listens: a fit's curve is completed from what the fit itself recorded, so every engine shows
the same, a fit from the cache and one of an earlier call, too.
"""

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.planning.units import Fit
from benchmarks.running.tasks import Event
from benchmarks.running.trackers import Target, Tracker
from benchmarks.store.run_folder import Store

SHOWN, SIDE = 8, 256  # pictures of one look that are shown, and their side at most


def harmless(act: Callable[..., None]) -> Callable[..., None]:
    """A mistake in what is shown ends the showing, and never a run."""

    @wraps(act)
    def safe(self: "TrainingLog", *args: Any) -> None:
        if self.broken:
            return
        try:
            act(self, *args)
        except Exception as error:  # nothing that is only shown may cost work
            self.broken = True
            print(
                f"perfbench: logging failed ({type(error).__name__}: {error}); nothing more is "
                f"logged, and the work goes on",
                file=sys.stderr,
            )

    return safe


class TrainingLog:
    """One command's log, in all places that were asked for."""

    def __init__(
        self,
        where: Sequence[Target],
        name: str,
        config: Mapping[str, str],
        store: Store | None = None,
    ) -> None:
        self.store = store  # where fits are published
        self.trackers: list[Tracker] = []
        self.broken = False
        try:
            for target in where:
                self.trackers.append(Tracker(target, name, config))
        except BaseException:
            self.close()
            raise
        self.names: dict[str, str] = {}  # of fits, by key
        self.told: dict[str, set[int]] = {}  # steps whose loss is known, by key
        self.scored: dict[str, set[int]] = {}
        self.whole: set[str] = set()

    @harmless
    def handle(self, event: Event) -> None:
        """What a worker says, as it comes."""
        fit = event.unit
        if not isinstance(fit, Fit):
            return
        if event.kind == "step" and event.numbers:
            self._losses(fit, [(event.step, event.numbers["loss"])])
        elif event.kind == "look":
            self._scores(fit, [(event.step, event.numbers["score"])])
            images = shown(event.pictures)
            for tracker in self.trackers:
                tracker.pictures(self._name(fit), event.step, images)
        elif event.kind == "done":
            self.finished([fit])

    @harmless
    def trained(self, fit: Fit, about: Mapping[str, Any]) -> None:
        """What a fit recorded of its training; what was told before is not told again."""
        if fit.key in self.whole:
            return
        self.whole.add(fit.key)
        self._losses(fit, numbered(enumerate(about.get("losses") or (), 1)))
        self._scores(fit, numbered(about.get("validation") or ()))

    @harmless
    def finished(self, fits: Iterable[Fit]) -> None:
        """Of all fits that are there, also those of earlier calls."""
        for fit in fits:
            about = self.store.manifest(fit) if self.store else None
            if about is not None:
                self.trained(fit, about)

    @harmless
    def tables(self, run: Path) -> None:
        """The tables of a finished run."""
        from benchmarks.tables.derived import read_table
        from benchmarks.tables.table_text import aligned

        for name in ("table", "metrics"):
            frame = read_table(run, name)
            rows = [list(map(str, frame.columns))]
            rows += [[shortened(value) for value in row] for row in frame.to_numpy().tolist()]
            for tracker in self.trackers:
                tracker.table(name, frame, aligned(rows))

    def close(self) -> None:
        for tracker in self.trackers:
            tracker.close()

    def _name(self, fit: Fit) -> str:
        """`perfusion/cat`; two fits of one method and concept are told apart by their keys."""
        if fit.key not in self.names:
            name = f"{fit.method}/{fit.concept}"
            taken = name in self.names.values()
            self.names[fit.key] = f"{name}-{fit.key[:8]}" if taken else name
            for tracker in self.trackers:
                tracker.axis(self.names[fit.key])
        return self.names[fit.key]

    def _losses(self, fit: Fit, points: Iterable[tuple[int, float]]) -> None:
        self._points(fit, "loss", points, self.told.setdefault(fit.key, set()))

    def _scores(self, fit: Fit, points: Iterable[tuple[int, float]]) -> None:
        self._points(fit, "validation", points, self.scored.setdefault(fit.key, set()))

    def _points(
        self, fit: Fit, what: str, points: Iterable[tuple[int, float]], known: set[int]
    ) -> None:
        for step, value in points:
            if step not in known:
                known.add(step)
                for tracker in self.trackers:
                    tracker.numbers(self._name(fit), step, {what: value})


@contextmanager
def logged(
    where: Sequence[Target], run: Path, protocol: Mapping[str, Any]
) -> Iterator[TrainingLog | None]:
    """Who is told what happens in a run folder; nobody, where nobody asked."""
    if not where:
        yield None
        return
    told = {key: str(value) for key, value in protocol.items() if key != "trained"}
    watch = TrainingLog(where, run.resolve().name, told, Store(run))
    try:
        yield watch
    finally:
        watch.close()


def numbered(points: Iterable[Any]) -> list[tuple[int, float]]:
    """Steps and values; a method of somebody's may have recorded anything."""
    found = []
    for point in points:
        if isinstance(point, list | tuple) and len(point) == 2:
            step, value = point
            if isinstance(step, int) and isinstance(value, int | float):
                found.append((step, float(value)))
    return found


def shortened(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return str(value)


def packed(images: np.ndarray) -> tuple[bytes, ...]:
    """A look's first pictures, small, as they travel from a worker."""
    found = []
    for picture in images[:SHOWN]:
        image = Image.fromarray(picture)
        image.thumbnail((SIDE, SIDE))
        content = io.BytesIO()
        image.save(content, "PNG")
        found.append(content.getvalue())
    return tuple(found)


def shown(pictures: Sequence[bytes]) -> np.ndarray:
    """uint8 [n, H, W, 3]"""
    return np.stack([np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in pictures])
