"""Where the shipped prompts and concepts are: inside the wheel, or at the top of a checkout."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_dir(name: str) -> Path:
    """The folder `prompts` or `concepts`."""
    packed = _PACKAGE / "data" / name
    return packed if packed.is_dir() else _PACKAGE.parent / name


def miniature_dir() -> Path:
    """The embedded backbone, in diffusers layout, with its scorers beside it."""
    return _PACKAGE / "miniature" / "weights"


def user_dir() -> Path:
    """What users add and fetch: $PERFBENCH_DATA, else the usual place for a user's data."""
    if chosen := os.environ.get("PERFBENCH_DATA"):
        return Path(chosen).expanduser().resolve()
    base = os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".local" / "share"
    return Path(base) / "perfbench"


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, `-dirty` where files were changed; None in a wheel."""
    import subprocess

    root = _PACKAGE.parent
    if not (root / ".git").exists():
        return None
    ask = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
