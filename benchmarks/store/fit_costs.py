"""What trained files cost: read from the manifests of fits, where somebody measured it.

In: a fit.json of anybody. Out: numbers by the names of table.csv's columns, NaN where nobody did.
"""

import math
from collections.abc import Mapping
from typing import Any

MEGA = 1e6
# column of table.csv -> where fit.json has it, and what a number there is divided by
MEASURED: Mapping[str, tuple[tuple[str, ...], float]] = {
    "train_seconds": (("seconds",), 1),
    "trainable": (("trainable",), 1),
    "train_peak_megabytes": (("peak_above_bytes",), MEGA),
    "draw_peak_megabytes": (("drawing", "peak_above_bytes"), MEGA),
    "picture_seconds": (("drawing", "picture_seconds"), 1),
    "base_picture_seconds": (("drawing", "base_picture_seconds"), 1),
    "apply_seconds": (("drawing", "apply_seconds"), 1),
}
NUMBERS = ("kilobytes", *MEASURED)  # the costs of a method, as columns
DEVICE = "device"


def measured_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of one fit.json, and its device: empty where it does not say."""
    found: dict[str, Any] = {}
    for name, (place, unit) in MEASURED.items():
        value = _at(about, place)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        fine = number and math.isfinite(value) and value >= 0
        found[name] = float(value) / unit if fine else math.nan
    names = [_at(about, place) for place in ((DEVICE,), ("drawing", DEVICE))]
    return {**found, DEVICE: devices(names)}


def devices(names: Any) -> str:
    """One text of the devices that something was measured on, each once; they are printed, so what
    cannot be is none.
    """
    texts = (name for name in names if isinstance(name, str) and name.isprintable())
    return " + ".join(sorted({part for text in texts for part in text.split(" + ") if part}))


def _at(about: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    found: Any = about
    for key in place:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
