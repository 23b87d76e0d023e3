"""Operating points by name: `local-b0.60-t0.15` in, the settings that a method's `apply` gets out; and back."""

import re
from typing import Any

from perfusion_core.errors import UserError

LOCKS = ("local", "global")


def parse_point(name: str) -> dict[str, Any]:
    """`local-b0.60-t0.15` -> {lock, bias, temperature}; `s100` is a kept training step; others stand as key=value."""
    settings: dict[str, Any] = {}
    for token in () if name == "default" else name.split("-"):
        if found := re.fullmatch(r"([bt])(\d+(?:\.\d+)?)", token):
            settings["bias" if found[1] == "b" else "temperature"] = float(found[2])
        elif found := re.fullmatch(r"s(\d+)", token):
            settings["step"] = int(found[1])
        elif found := re.fullmatch(r"([a-z_]+)=([A-Za-z0-9._]+)", token):
            settings[found[1]] = float(found[2]) if re.fullmatch(r"\d+(\.\d+)?", found[2]) else found[2]
        elif token in LOCKS:
            settings["lock"] = token
        elif token != "default":
            raise UserError(
                f"operating point {name!r}: {token!r} is not a lock ({', '.join(LOCKS)}), b<bias>, t<temperature>, "
                "s<training step> or key=value; write for example local-b0.60-t0.15"
            )
    return settings


def point_name(name: str) -> str:
    """The one name of a point: two decimals at least."""
    return re.sub(
        r"(?<=[bt])\d+(?:\.\d+)?(?=-|$)", lambda n: max(f"{float(n[0]):.2f}", f"{float(n[0]):g}", key=len), name
    )


def split_step(settings: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """What goes to the method, and the kept training step (0: the fit as it ended)."""
    return {key: value for key, value in settings.items() if key != "step"}, int(settings.get("step", 0))
