"""Where shipped and user data lie: in the wheel or a checkout, in the user's folder."""

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
    base = (
        os.environ.get("XDG_DATA_HOME")
        or os.environ.get("LOCALAPPDATA")
        or Path.home() / ".local" / "share"
    )
    return Path(base) / "perfbench"


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, `-dirty` where more than results was
    changed; None in a wheel."""
    import subprocess

    root = _PACKAGE.parent
    if not (root / ".git").exists():
        return None

    def said(*words: str) -> str:
        call = ["git", "-C", str(root), *words]
        return subprocess.run(
            call, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        changed = said(
            "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results"
        )
        return said("rev-parse", "--short=12", "HEAD") + "-dirty" * bool(changed)
    except (OSError, subprocess.SubprocessError):
        return None


def backbone_names() -> dict[str, Path]:
    """The short names that mean a folder."""
    return {"miniature": miniature_dir()}


def backbone_place(given: str) -> Path:
    """Where a name of the shipped backbone stands for, or the folder or file that was given."""
    return backbone_names().get(given, Path(given).expanduser())
