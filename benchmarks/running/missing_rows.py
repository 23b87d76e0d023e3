"""Which rows are missing, and how new ones join those that are there. No torch; the scores
themselves are similarity.py's.

In: planned cells with their seeds. Out: tasks of scoring; rows files.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from benchmarks.digests import digest
from benchmarks.running.tasks import ScoringTask
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.measures import FOUND, SUBJECT
from benchmarks.scoring.reserved import REAL
from benchmarks.store.csv_files import count_keys, read_rows_file
from benchmarks.store.run_folder import Store
from benchmarks.suite.drift_kinds import DRIFTS

Address = tuple[str, str, str]  # method, point, concept
KEPT = 3  # prompts of a group whose images stay when images are dropped


class Scoring:
    """The scores that one run wants."""

    def __init__(
        self,
        store: Store,
        cells: Sequence[CellRow],
        concepts: Mapping[str, tuple[str, str, int]],
        scorers: Sequence[str],
        drop: bool = False,
        again: bool = False,
        measured: Collection[str] = (),
        alone: bool = False,
    ) -> None:
        """`concepts`: name -> (key of its pictures, group, how many). `again`: rows that are there
        count as lacking until new ones have taken their place; those of images that are gone
        stay. `measured`: scorers whose rows do so, too, where they lack a measure beyond the
        protocol that they could have. `alone`: the subject can be cut out of pictures."""
        self.store, self.scorers, self.drop, self.again = store, tuple(scorers), drop, again
        self.measured, self.alone = frozenset(measured), alone
        self.renewed: set[tuple[str, Address, str]] = set()
        self.concepts = concepts
        self.cells: dict[Address, list[CellRow]] = {}
        # by prompt, of what drift is measured from; it has no scores of its own
        self.bases = {cell.prompt_id: cell.key for cell in cells if cell.is_base}
        for cell in cells:
            # without the plain backbone's pictures there is nothing to compare with
            if not cell.drifts or (not cell.is_base and cell.prompt_id in self.bases):
                self.cells.setdefault(cell.address, []).append(cell)

    def groups(self) -> dict[Address, frozenset[str]]:
        """What lacks rows, and the keys of the cells that must be there first."""
        wanted = {
            address: frozenset(cell.key for cell in cells) | self._bases_of(cells)
            for address, cells in self.cells.items()
        }
        wanted |= {(REAL, "default", name): frozenset() for name in self.concepts}
        return {address: needs for address, needs in wanted.items() if self.lacking(address)[0]}

    def lacking(self, address: Address) -> tuple[tuple[str, ...], set[str]]:
        """Scorers that lack rows, and the keys of the cells that lack them."""
        need, missing = self._needed(address), {}
        for scorer in self.scorers:
            there = count_keys([self.store.rows_file(scorer, *address)])
            old = {key for key in need if self.again and (scorer, address, key) not in self.renewed}
            old |= self._unmeasured(scorer, address) if scorer in self.measured else set()
            missing[scorer] = {key for key, n in need.items() if there[key] != n or key in old}
        return tuple(s for s in self.scorers if missing[s]), set().union(*missing.values())

    def _unmeasured(self, scorer: str, address: Address) -> set[str]:
        """Keys of rows that lack a measure: of several pictures beside each other, to held-out ones
        where the concept has any, or of the subject alone where it has masks.
        """
        apart = "+" not in address[2] and self.store.heldout(address[2]).is_dir()
        every = read_rows_file(self.store.rows_file(scorer, *address)) or []
        rows = [row for row in every if row["kind"] not in DRIFTS]  # which have their own
        cut = self.alone and "+" not in address[2]
        cut = cut and (self.store.concept(address[2]) / "masks").is_dir()
        many = Counter(row["key"] for row in rows)
        return {
            row["key"]
            for row in rows
            if (apart and row["image_sim"] and not row.get("image_sim_heldout"))
            or (cut and row["image_sim"] and not {SUBJECT, FOUND} & row.keys())
            or (address[0] != REAL and many[row["key"]] > 1 and not row.get("variety"))
        }

    def lacking_cells(self, scorer: str) -> list[CellRow]:
        """The cells that lack rows of one scorer."""
        found = []
        for address, cells in self.cells.items():
            there = count_keys([self.store.rows_file(scorer, *address)])
            asked = [cell for cell in cells if not cell.drifts]  # of which a judge is not asked
            found += [c for c in asked if self.again or there[c.key] != len(c.seeds)]
        return found

    def _bases_of(self, cells: Sequence[CellRow]) -> frozenset[str]:
        """Keys of what their drift is measured from."""
        return frozenset(self.bases[cell.prompt_id] for cell in cells if cell.drifts)

    def _needed(self, address: Address) -> dict[str, int]:
        if address[0] == REAL:
            key, _, n = self.concepts[address[2]]
            return {key: n}
        return {cell.key: len(cell.seeds) for cell in self.cells[address]}

    def task(self, address: Address, done: set[str]) -> ScoringTask | None:
        """What can be scored now; None where nothing is lacking."""
        scorers, keys = self.lacking(address)
        method, point, concept = address
        if method == REAL:
            key, group, _ = self.concepts[concept]
            return (
                ScoringTask(method, point, concept, group, (), scorers, key=key)
                if scorers
                else None
            )
        cells = tuple(
            cell
            for cell in self.cells[address]
            if cell.key in keys & done and self._bases_of([cell]) <= done
        )
        needs = frozenset(cell.key for cell in cells)
        return (
            ScoringTask(method, point, concept, cells[0].group, cells, scorers, needs)
            if cells
            else None
        )

    def images(self, done: set[str]) -> int:
        """How many lack a score."""
        tasks = (self.task(address, done) for address in self.groups())
        return sum(task.images for task in tasks if task)

    def lock(self, address: Address) -> str:
        return digest(["score", *address])

    def publish(self, task: ScoringTask, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """New rows beside the old ones of planned cells, by prompt and index."""
        address = (task.method, task.point, task.concept)
        for scorer, new in rows.items():
            path = self.store.rows_file(scorer, *address)
            fresh = {row["key"] for row in new}
            self.renewed |= {(scorer, address, key) for key in fresh}
            planned = self._needed(address).keys() | self.store.planned_keys()
            old = [
                r
                for r in read_rows_file(path) or ()
                if r["key"] in planned and r["key"] not in fresh
            ]
            self.store.write_rows(
                path, sorted([*old, *new], key=lambda row: (row["prompt_id"], int(row["index"])))
            )
        if not task.real:
            self.drop_images(address)

    def drop_images(self, address: Address) -> None:
        """Where that is wanted, once every cell of a group is scored: all but a small gallery, and
        the few pictures of drift."""
        if self.drop and not self.lacking(address)[1]:
            drawn = [cell for cell in self.cells[address] if not cell.drifts]
            for cell in drawn[KEPT:]:
                self.store.drop_images(*address, cell.prompt_id)
