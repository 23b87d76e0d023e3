"""An operating point: the run-time settings that an image is drawn with.

In: a name such as `local-b0.60-t0.15`. Out: an `OperatingPoint`; `str` of it is the name again.
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from perfusion_core.errors import UserError

LOCKS = ("local", "global")
BIASES = 10  # the gate's cosine is at most 1
NUMBER = r"\d+(?:\.\d+)?"


@dataclass(frozen=True)
class OperatingPoint:
    """Lock, bias and temperature of Perfusion; a kept training step; settings of a method of one's
    own.

    What a name does not say is None, and left to the method. Without any setting the name is
    `default`.
    """

    lock: str | None = None
    bias: float | None = None
    temperature: float | None = None
    step: int | None = None  # a state kept on the way; None: the fit as it ended
    free: tuple[tuple[str, str], ...] = ()  # other settings by key, their values as text, sorted
    # As its name was written: rows and folders of a run bear that name. Two orders are equal
    # points.
    order: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def parse(cls, name: str) -> "OperatingPoint":
        """`local-b0.60-t0.15-s100` or `strength=0.5-mode=soft`, in any order; each setting once."""
        found: dict[str, str] = {}
        for token in name.split("-"):
            key, value = _setting(name, token)
            if key in found:
                raise UserError(
                    f"operating point {name!r} says {key.rstrip('=')} twice, {found[key]} and "
                    f"{value}; write one"
                )
            found[key] = value
        numbers = {key: float(found[key]) for key in ("bias", "temperature") if key in found}
        return cls(
            lock=found.get("lock"),
            **numbers,
            step=int(found["step"]) if "step" in found else None,
            free=tuple(
                sorted((key[:-1], value) for key, value in found.items() if key.endswith("="))
            ),
            order=tuple(found),
        )

    def __str__(self) -> str:
        """The name: the parts in the order in which they were written, numbers with two decimals at
        least.
        """
        parts = {"default": "default"} if "default" in self.order else {}
        parts |= {"lock": self.lock} if self.lock is not None else {}
        parts |= {"bias": f"b{_decimals(self.bias)}"} if self.bias is not None else {}
        parts |= (
            {"temperature": f"t{_decimals(self.temperature)}"}
            if self.temperature is not None
            else {}
        )
        parts |= {f"{key}=": f"{key}={value}" for key, value in self.free}
        if not self.order and not parts:
            parts["default"] = "default"  # of default-s100, made and not read
        parts |= {"step": f"s{self.step}"} if self.step is not None else {}
        written = [key for key in self.order if key in parts]
        return "-".join(parts[key] for key in dict.fromkeys([*written, *parts])) or "default"

    def refuse_out_of_range(self) -> None:
        """What no gate can be told: it divides by the temperature, and a cosine is at most 1."""
        if self.temperature == 0:
            raise UserError(f"point {self}: the temperature is a number above 0, such as t0.15")
        if self.bias is not None and self.bias > BIASES:
            raise UserError(
                f"point {self}: a bias above {BIASES} turns every concept off; give a lower one"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What a method's `apply` gets: all but the training step, which says which files it
        gets.
        """
        named = {"lock": self.lock, "bias": self.bias, "temperature": self.temperature}
        free = {
            key: float(value) if re.fullmatch(NUMBER, value) else value for key, value in self.free
        }
        return {key: value for key, value in named.items() if value is not None} | free

    @property
    def family(self) -> tuple[object, ...]:
        """What one line of a figure has in common: everything but the bias and the training
        step.
        """
        return (self.lock, self.temperature, self.free)


def is_variant(name: str) -> bool:
    """A run-time variant, and not a state of the training kept for its curve (`...-s100`)."""
    return OperatingPoint.parse(name).step is None


def _setting(name: str, token: str) -> tuple[str, str]:
    """The field that a part of a name sets (`key=` where it is a free one), and its value as
    text.
    """
    if token == "default" or token in LOCKS:
        return ("default" if token == "default" else "lock"), token
    if found := re.fullmatch(rf"([bt])({NUMBER})", token):
        return ("bias" if found[1] == "b" else "temperature"), found[2]
    if found := re.fullmatch(r"s(\d+)", token):
        return "step", found[1]
    if (found := re.fullmatch(r"([a-z_]+)=([A-Za-z0-9._]+)", token)) and found[1] != "step":
        return f"{found[1]}=", found[2]
    raise UserError(
        f"operating point {name!r}: {token!r} is not a lock ({', '.join(LOCKS)}), b<bias>, "
        f"t<temperature>, "
        "s<training step> or key=value; write for example local-b0.60-t0.15"
    )


def _decimals(value: float) -> str:
    """0.6 -> 0.60, 0.625 -> 0.625; never 1e-05."""
    return max(f"{value:.2f}", f"{Decimal(repr(float(value))):f}", key=len)
