"""Perfusion's ablations (Fig. 9, Fig. A.1, and one of ours), each told once. In: nothing. Out: the
table ABLATIONS.

`perfbench run --ablation NAME` plans the method `perfusion-NAME`; `plot ablation` draws a panel for
each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.planning.config import GLOBAL, LOCAL
from benchmarks.planning.points import OperatingPoint
from benchmarks.scoring.reserved import OURS

BASE = OURS


@dataclass(frozen=True)
class Ablation:
    """One change of Perfusion, at training or at run time."""

    name: str  # of the flag
    label: str  # in a legend, behind the method's name
    title: str  # of its panel
    usual: str  # what Perfusion itself is called there
    changed: str  # what the change is called there; {}: with its value
    config: Mapping[str, Any] = field(default_factory=dict)  # fields of the method's Config
    points: tuple[str, ...] = ()  # its own operating points; empty: Perfusion's

    @property
    def method(self) -> str:
        """Its name in rows. The locks are operating points of Perfusion itself, and no method of
        their own.
        """
        return f"{BASE}-{self.name}" if self.config or self.points else BASE


def _at_temperature(temperature: float, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        str(replace(OperatingPoint.parse(name), temperature=temperature)) for name in names
    )


ABLATIONS = (
    # Fig. 9a
    Ablation("one-shot", "one image", "Training images", "all", "one", {"images": 1}),
    # Fig. 9b
    Ablation("trained-k", "trained K", "Key locking", "locked K", "trained K", {"train_k": True}),
    # Fig. 9c
    Ablation("no-mask", "no mask", "Mask in training", "mask", "no mask", {"masks": False}),
    # Fig. 9d
    Ablation("train-bias", "train bias", "Bias in training", "0.75", "{}", {"train_bias": 0.55}),
    # Fig. 9e; the temperature of training
    Ablation(
        "infer-temperature",
        "temperature",
        "Temperature",
        "τ = 0.15",
        "τ = {}",
        points=_at_temperature(0.10, (*LOCAL, *GLOBAL)),
    ),
    # Fig. A.1
    Ablation(
        "vanilla-rome", "vanilla ROME", "Edit", "gated", "vanilla ROME", {"vanilla_rome": True}
    ),
    Ablation("lock", "lock", "Key lock", "local", "global"),
    # not in the paper: on backbones of Stable Diffusion XL's kind, which pool the prompt's text
    Ablation(
        "own-pooled",
        "own pooled text",
        "Pooled text",
        "super-category's",
        "the concept's",
        {"pooled": "concept"},
    ),
)
