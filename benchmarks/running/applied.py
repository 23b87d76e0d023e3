"""What is in the backbone now: the trained files of one cell, at its operating point.

In: a cell, and where its fits are. Out: the function that writes its texts; what was applied before
is undone.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.planning.units import Cell, Fit
from benchmarks.store.run_folder import Store
from perfusion_core.errors import UserError

Write = Callable[[str], str]


class Settings(dict[str, Any]):
    """A point's settings, and which of them a method has looked at."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.unread = set(settings)

    def __getitem__(self, key: str) -> Any:
        self.unread.discard(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.unread.discard(key)
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        self.unread.discard(key)
        return super().pop(key, *default)

    def __contains__(self, key: object) -> bool:
        self.unread.discard(str(key))
        return super().__contains__(key)

    def setdefault(self, key: str, default: Any = None) -> Any:
        self.unread.discard(key)
        return super().setdefault(key, default)

    def popitem(self) -> Any:
        self.unread.clear()
        return super().popitem()

    def __eq__(self, other: object) -> bool:
        self.unread.clear()
        return super().__eq__(other)

    __hash__ = None

    # what goes over all of them looks at all of them; `dict(point)` and `**point` come here, too
    def __iter__(self) -> Iterator[str]:
        self.unread.clear()
        return super().__iter__()

    def keys(self) -> Any:
        self.unread.clear()
        return super().keys()

    def items(self) -> Any:
        self.unread.clear()
        return super().items()

    def values(self) -> Any:
        self.unread.clear()
        return super().values()


class Applied:
    """Kept from one cell to the next where it is the same."""

    def __init__(self, store: Store, method: Callable[[str], ModuleType]) -> None:
        self.store, self.method = store, method
        self.now: tuple[object, Write] | None = None
        self.settings = Settings({})
        self._stack = ExitStack()

    def write(self, backbone: Any, cell: Cell) -> Write:
        """Apply the cell's fits at its point."""
        from perfusion_core.subject import Fitted

        same = (
            cell.base,
            tuple(fit.key for fit in cell.fits),
            cell.step,
            tuple(cell.settings.items()),
            cell.concepts,
        )
        if self.now is None or self.now[0] != same:
            self.close()
            folders = [self._folder(fit, cell.step) for fit in cell.fits] or [
                self.store.root
            ] * len(cell.concepts)
            fits = {
                n: Fitted(f, s) for n, f, s in zip(cell.concepts, folders, cell.super_categories)
            }
            self.settings = Settings(cell.settings)
            write = self._stack.enter_context(
                self.method(cell.base).apply(backbone, fits, self.settings)
            )
            self.now = same, write
        return self.now[1]

    def refuse_unread(self, cell: Cell) -> None:
        """After the text side of a cell: a setting that changed nothing is another point's
        picture.
        """
        if self.settings.unread:
            raise UserError(
                f"point {cell.point} of {cell.method}: `apply` did not look at "
                f"{sorted(self.settings.unread)[0]}, so the pictures would be those of another "
                f"point; read it from `point`, or leave it out"
            )

    def close(self) -> None:
        """Leave the backbone as it was."""
        self.now = None
        self._stack.close()

    def _folder(self, fit: Fit, step: int) -> Path:
        folder = self.store.folder(fit)
        return folder / f"step-{step}" if step else folder


def plain_words(cell: Cell, text: str) -> str:
    """The super-categories' words for the concepts' names, as `super` writes them."""
    from perfusion_core.prompts import PLACEHOLDER

    words = dict(zip(cell.concepts, cell.super_categories))
    return PLACEHOLDER.sub(lambda found: words.get(found[1], found[1]), text)
