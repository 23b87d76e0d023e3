"""The settings that `perfbench tune --halving` tries: rates spread between two ends,
log-uniformly.

In: a method, a seed, how many. Out: `Setting`s; the same number gives the same settings, and a
larger one these first. The published rates can be one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.planning import methods
from benchmarks.planning.plan import seed_of
from benchmarks.running.tune import trials_of
from perfusion_core.errors import UserError

BITS = 30  # of a place within a range
AROUND = 4.0  # times the lowest and the highest rate of the method's recipes
BESIDE = 8.0  # times the rate in use, where the published one is a setting of its own


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
        for number, shares in enumerate(places(len(self.ranges), count - published, seed), 1):
            rates = {
                name: float(f"{low * (high / low) ** share:.6g}")
                for share, (name, (low, high)) in zip(shares, self.ranges.items())
            }
            out.append(Setting(self.method, f"{number:02d}", rates))
        return out


def places(rates: int, count: int, seed: int) -> list[list[float]]:
    """Points of the unit cube, spread by Sobol's sequence: of the first 2^k one lies in each 2^k-th
    of every axis. Eight independent draws would leave gaps of half a range. The seed shifts their
    digits, which keeps that.
    """
    from scipy.stats import qmc  # loads much

    if not rates or count < 1:
        return [[] for _ in range(count)]
    whole = qmc.Sobol(rates, scramble=False, bits=BITS)
    spread = (whole.random_base2(max(0, (count - 1).bit_length()))[:count] * 2**BITS).astype(int)
    shift = [seed_of(seed, "tune", f"rate {axis}", 0) % 2**BITS for axis in range(rates)]
    shares: list[list[float]] = (((spread ^ np.array(shift)) + 0.5) / 2**BITS).tolist()
    return shares


def searched(
    name: str, miniature: bool, files: Sequence[str] = (), published_too: bool = False
) -> Searched:
    """A method's ranges: those that its file gives; else from a quarter of the lower to four times
    the higher of the published rate and the one of the recipe in use. Where the published rates are
    tried too, from an eighth to eight times the recipe in use.
    """
    trials = trials_of(name, (1.0,), miniature, files)
    published = methods.load_method(name, files).Config()
    said = methods.said(name, files).tuned_ranges
    if strange := [rate for rate in said if rate not in trials.rates]:
        raise UserError(f"{name}: TUNED_RANGES names {strange[0]}, which TUNED does not")
    ranges = {}
    own = {rate: float(getattr(published, rate)) for rate in trials.rates}
    for rate, used in trials.rates.items():
        both = [used, used] if published_too else sorted((own[rate], used))
        if rate not in said and both[0] <= 0:
            raise UserError(
                f"{name}: the recipe's {rate} is {both[0]:g}, around which no logarithm is drawn; "
                f'give TUNED_RANGES = {{"{rate}": (LOW, HIGH)}} in its file (docs/methods.md)'
            )
        wide = BESIDE if published_too else AROUND
        low, high = said[rate] if rate in said else (both[0] / wide, both[1] * wide)
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
