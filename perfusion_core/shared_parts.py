"""A backbone's folder put together: what it shares with another, and what only it has.

In: the other's folder, the own parts. Out: a whole folder, which anything opens; or the own parts
of a whole one.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from perfusion_core.errors import UserError
from perfusion_core.weight_digests import backbone_digest, file_sha256

RECORD = "build.json"
# of a model of XL's kind that grew from one of Stable Diffusion's kind; all else it shares with
# that: VAE, first text encoder, scheduler, and what lies beside a pipeline
OWN = (
    RECORD,
    "covariance.safetensors",
    "model_index.json",
    "text_encoder_2",
    "tokenizer_2",
    "unet",
)


def grown_from(parts: Path) -> str:
    """The digest of the backbone that the parts were trained beside, as their record says."""
    told = json.loads((parts / RECORD).read_text(encoding="utf-8"))
    return str((told.get("joint") or {}).get("grown_from", ""))


def put_together(base: Path, parts: Path, home: Path, name: str) -> Path:
    """The whole folder, made once in `home` under a name that tells both contents."""
    if grown_from(parts) != backbone_digest(base):
        raise UserError(
            f"{parts} belongs to other weights than those in {base}, so {name} cannot be put "
            f"together; install the package again"
        )
    told = json.dumps([digests_in(base), digests_in(parts)], sort_keys=True)
    whole = home / f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:16]}" / name
    if whole.is_dir():
        return whole
    whole.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=whole.parent))
    try:
        shutil.copytree(base, aside / name, ignore=partial(own_of, base))
        shutil.copytree(parts, aside / name, dirs_exist_ok=True)
        try:
            os.replace(aside / name, whole)
        except OSError:
            if not whole.is_dir():  # no other process was first
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return whole


def own_of(root: Path, at: str, names: Iterable[str]) -> set[str]:
    """Which names in the folder `at` are own parts: those that lie in `root` itself."""
    return {*OWN} & {*names} if Path(at) == root else set()


def take_apart(whole: Path, base: Path, parts: Path) -> Path:
    """The own parts of a whole folder, in `parts`, once all else was found to be the base's."""
    theirs, mine = (shared(digests_in(folder)) for folder in (base, whole))
    for file in sorted({*theirs, *mine}):
        if theirs.get(file) != mine.get(file):
            raise UserError(
                f"{file} of {whole} is not that of {base}, so it cannot be shared; build it with "
                f"--start {base}"
            )
    if grown_from(whole) != backbone_digest(base):
        raise UserError(f"{whole} was grown from other weights than {base}; build it from these")
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    for name in OWN:
        source = whole / name
        if source.is_dir():
            shutil.copytree(source, parts / name)
        else:
            shutil.copy2(source, parts / name)
    return parts


def digests_in(folder: Path) -> dict[str, str]:
    """Every file, and its SHA-256."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def shared(digests: dict[str, str]) -> dict[str, str]:
    """Those outside of the own parts."""
    return {name: one for name, one in digests.items() if name.partition("/")[0] not in OWN}
