"""What becomes whole while a run goes on: trained files that no picture needs any more, concepts of
which every score is there. No torch.

In: a plan and its scoring, then each task that was scored. Out: trained files removed where that
was asked for; a call for each whole concept.
"""

from collections.abc import Callable, Iterable

from benchmarks.planning.units import Cell, Fit, Plan
from benchmarks.running.missing_rows import Address, Scoring
from benchmarks.running.tasks import ScoringTask
from benchmarks.scoring.reserved import REAL
from benchmarks.store.run_folder import Store


class WholeConcepts:
    """Of one run."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        scoring: Scoring,
        drop_fits: bool = False,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """`tell` is called with each concept that is whole, also of those that were before."""
        self.store, self.scoring, self.tell = store, scoring, tell
        wanted = bool(drop_fits or tell)  # else no file is read for it
        cells = [
            cell for cell in (*plan.cells, *plan.drift) if wanted and _place(cell) in scoring.cells
        ]
        # what each fit and each concept still waits for
        self.fits: dict[str, tuple[Fit, set[Address]]] = {}
        self.concepts: dict[str, set[Address]] = {}
        for cell in cells:
            for fit in cell.fits if drop_fits else ():
                self.fits.setdefault(fit.key, (fit, set()))[1].add(_place(cell))
            for name in cell.concepts:
                own = {(REAL, "default", name)} if name in scoring.concepts else set[Address]()
                self.concepts.setdefault(name, own).add(_place(cell))
        self.spent: set[str] = set()  # fits whose files are gone
        places: Iterable[Address] = set().union(*self.concepts.values())
        self._settle({place for place in places if not scoring.lacking(place)[1]})

    def scored(self, task: ScoringTask) -> None:
        """Rows of this task were written."""
        place = task.method, task.point, task.concept
        if not self.scoring.lacking(place)[1]:
            self._settle({place})

    def _settle(self, places: set[Address]) -> None:
        for key, (fit, waits) in list(self.fits.items()):
            waits -= places
            if not waits:
                del self.fits[key]
                if self.store.manifest(fit):
                    self.store.drop_trained(fit)
                    self.spent.add(key)
        for name, waits in list(self.concepts.items()):
            waits -= places
            if not waits:
                del self.concepts[name]
                if self.tell:
                    self.tell(name)


def _place(cell: Cell) -> Address:
    return cell.method, cell.point, cell.concept
