"""The settings that `perfbench tune --halving` tries: rates drawn between two ends, log-uniformly.

In: a method, a seed, how many. Out: `Setting`s; the same number gives the same settings, and a
larger one these first. The published rates can be one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.planning import methods
from benchmarks.planning.plan import seed_of
from benchmarks.running.tune import trials_of
from perfusion_core.errors import UserError

AROUND = 4.0  # times the lowest and the highest rate of the method's recipes


@dataclass(frozen=True)
class Setting:
    """One trial: a method with these rates."""

    method: str
    number: str  # 01, 02, ...; 00 has the published rates
    rates: dict[str, float]

    @property
    def words(self) -> str:
        return " ".join(f"{name}={rate:g}" for name, rate in self.rates.items())


@dataclass(frozen=True)
class Searched:
    """What one method is searched over."""

    method: str
    ranges: dict[str, tuple[float, float]]
    point: str  # the operating point that it is looked at
    published: dict[str, float]

    def settings(self, count: int, seed: int, published: bool = False) -> list[Setting]:
        """So many; with `published` these rates are the first. The places of the others in the
        ranges are the same for every method, so that luck is, too.
        """
        out = [Setting(self.method, "00", dict(self.published))] if published else []
        for index in range(count - published):
            rates = {}
            for place, (name, (low, high)) in enumerate(self.ranges.items()):
                share = seed_of(seed, "tune", f"rate {place}", index) / 2**48
                rates[name] = float(f"{low * (high / low) ** share:.6g}")
            out.append(Setting(self.method, f"{index + 1:02d}", rates))
        return out


def searched(name: str, miniature: bool, files: Sequence[str] = ()) -> Searched:
    """A method's ranges: those that its file gives; else from a quarter of the lower to four times
    the higher of the published rate and the one of the recipe in use.
    """
    trials = trials_of(name, (1.0,), miniature, files)
    published = methods.load_method(name, files).Config()
    said = methods.said(name, files).tuned_ranges
    if strange := [rate for rate in said if rate not in trials.rates]:
        raise UserError(f"{name}: TUNED_RANGES names {strange[0]}, which TUNED does not")
    ranges = {}
    own = {rate: float(getattr(published, rate)) for rate in trials.rates}
    for rate, used in trials.rates.items():
        both = sorted((own[rate], used))
        if rate not in said and both[0] <= 0:
            raise UserError(
                f"{name}: the recipe's {rate} is {both[0]:g}, around which no logarithm is drawn; "
                f'give TUNED_RANGES = {{"{rate}": (LOW, HIGH)}} in its file (docs/methods.md)'
            )
        low, high = said[rate] if rate in said else (both[0] / AROUND, both[1] * AROUND)
        ranges[rate] = (float(f"{low:.6g}"), float(f"{high:.6g}"))
    return Searched(name, ranges, trials.where, own)


def methods_to_search(given: str | None, files: Sequence[str] = ()) -> list[str]:
    """The named methods, or all whose files say what to tune; any other is refused."""
    tuned = methods.tuned(files)
    names = methods.check_names(given.split(",") if given else tuned, files)
    wanted = [name for name in names if name != methods.FLOOR]
    for name in wanted:
        if name not in tuned:
            raise UserError(
                f"{name} says no TUNED, the rates that are tried (docs/methods.md); give --methods "
                f"of {', '.join(tuned)}"
            )
    if not wanted:
        raise UserError(f"--methods names nothing to tune; give some of {', '.join(tuned)}")
    return wanted
