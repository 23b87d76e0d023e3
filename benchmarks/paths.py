"""Where shipped and user data lie: in the wheel or a checkout, in the user's folder."""

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from perfusion_core.errors import UserError

MINIATURE, MINIATURE_XL = "miniature", "miniature-xl"
DRAWN_WORLD = (MINIATURE, MINIATURE_XL)  # their models have seen no photograph
RESULTS = Path("results")
FIRST_WORLD = RESULTS / "first-world"  # what was made on the first miniature, moved aside
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


class BackboneNames(Mapping[str, Path]):
    """The short names that mean a folder. That of miniature-xl, which shares most of its parts with
    the miniature, is put together when it is first asked for.
    """

    def __getitem__(self, name: str) -> Path:
        if name == MINIATURE:
            return miniature_dir()
        if name == MINIATURE_XL:
            return miniature_xl_dir()
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in DRAWN_WORLD  # without putting anything together

    def __iter__(self) -> Iterator[str]:
        return iter(DRAWN_WORLD)

    def __len__(self) -> int:
        return len(DRAWN_WORLD)

    def here(self, name: str) -> bool:
        """Whether a name's weights are in this package."""
        place = miniature_dir() if name == MINIATURE else miniature_xl_parts()
        return (place / "model_index.json").is_file()


def miniature_xl_parts() -> Path:
    """What miniature-xl has beside the miniature."""
    return _PACKAGE / "miniature" / "weights-xl"


def miniature_xl_dir() -> Path:
    """The embedded backbone of Stable Diffusion XL's kind, whole, in the user's cache."""
    if not BackboneNames().here(MINIATURE_XL):
        raise UserError(
            "the weights of miniature-xl are not in this package yet; train them by `perfbench "
            "miniature build --xl --out DIR`, and give --backbone DIR"
        )
    from perfusion_core.places import cache_dir

    return _whole(miniature_xl_parts(), cache_dir().expanduser().absolute() / "backbones")


@cache
def _whole(parts: Path, home: Path) -> Path:
    from perfusion_core.shared_parts import put_together

    try:
        return put_together(miniature_dir(), parts, home, MINIATURE_XL)
    except OSError as error:
        raise UserError(
            f"{MINIATURE_XL} is put together in {home}, which cannot be written "
            f"({error.strerror}); name another cache by PERFBENCH_CACHE"
        ) from error


def backbone_names() -> BackboneNames:
    """The short names that mean a folder."""
    return BackboneNames()


def backbone_place(given: str) -> Path:
    """Where a name of the shipped backbone stands for, or the folder or file that was given."""
    names = backbone_names()
    return names[given] if given in names else Path(given).expanduser()
