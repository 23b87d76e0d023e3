"""Where things lie: a backbone by its name, C of a text encoder, the user's cache. Imports no
torch.

In: names, as people give them. Out: folders and files, fetched where they are of the hub.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perfusion_core.errors import UserError, unknown
from perfusion_core.hub import (
    DENOISERS,
    HUB,
    VAE_FILES,
    VAES,
    fetch_checkpoint,
    fetch_vae,
    variant_in,
)

COVARIANCE = "covariance.safetensors"  # beside a backbone
LATENTS = ("latent_channels", "scaling_factor", "shift_factor", "latents_mean", "latents_std")
# what a configuration of AutoencoderKL means that is older than the number, as SD 1.x's are
UNSAID = {"scaling_factor": 0.18215}


def cache_dir() -> Path:
    """What is worth keeping and belongs to no folder of the user's: C, masks. `none` is no folder:
    these are then kept in the usual place.
    """
    base = os.environ.get("PERFBENCH_CACHE")
    return (
        Path(base)
        if base and base != "none"
        else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "perfbench"
    )


def cached(digest: str) -> Path:
    """C of the text encoder of this digest, where it is not beside its backbone."""
    return cache_dir() / "covariance" / f"{digest}.safetensors"


def locate(
    where: str, revision: str | None, names: Mapping[str, Path]
) -> tuple[str, Path, str | None]:
    """-> a name for people, the folder or file, the revision. Hub checkpoints are fetched
    (safetensors only).
    """
    if revision and (where in names or Path(where).exists()):
        raise UserError(
            f"{where} is here and no hub id, so it has no revision {revision!r}; leave the "
            f"revision out"
        )
    if here := on_this_machine(where, names):
        return *here, revision
    folder = fetch_checkpoint(where, revision)
    return where, folder, folder.name  # a hub snapshot's folder is named by its commit


def on_this_machine(where: str, names: Mapping[str, Path]) -> tuple[str, Path] | None:
    """The name for people and the folder or file; None for a hub id, which has to be fetched."""
    if where in names:
        if not names[where].exists():
            raise UserError(f"the backbone {where!r} is not there: {names[where]} does not exist")
        return where, names[where]
    path = Path(where)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise UserError(
                f"{where} is not a backbone: no model_index.json in it (a folder in diffusers "
                f"layout is wanted)"
            )
        return path.resolve().name, path
    if path.is_file():
        if path.suffix != ".safetensors":
            raise UserError(
                f"{where}: only .safetensors checkpoints are opened, never pickles; convert it "
                f"first"
            )
        return path.stem, path
    if where not in HUB and (not re.fullmatch(r"[\w.-]+/[\w.-]+", where) or where.startswith(".")):
        kinds = ["a folder", "a .safetensors file", "a hub id such as owner/name"]
        raise unknown("backbone", where, [*names, *HUB, *kinds])
    return None


def locate_vae(where: str, revision: str | None = None) -> tuple[str, Path, str | None]:
    """-> a name for people, the folder of a VAE, the revision: of a name of VAES, a folder that
    holds it or a whole pipeline, or a hub id, which is fetched (safetensors only), at `revision`.
    """
    path = Path(os.path.expanduser(where))  # a user that nobody has stays as it is
    if path.is_file():
        raise UserError(
            f"{where} is a file, and a VAE is given as a folder in diffusers layout: "
            f"{' and '.join(VAE_FILES)}"
        )
    if path.is_dir():
        inside = path / "vae" if (path / "model_index.json").is_file() else path
        if lacking := [name for name in VAE_FILES if not (inside / name).is_file()]:
            raise UserError(
                f"{where} is no VAE: there is no {inside / lacking[0]}; give a folder in diffusers "
                f"layout"
            )
        return path.resolve().name, inside, None
    is_id = re.fullmatch(r"[\w.-]+/[\w.-]+", where) and not where.startswith(".")
    if where not in VAES and not is_id:
        raise unknown("VAE", where, [*VAES, "a folder", "a hub id such as owner/name"])
    folder = fetch_vae(where, revision)
    return where, folder, folder.name


def latents_apart(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """What of two VAEs' configurations says that their latents differ: a denoiser reads them as the
    VAE of its training made them. Empty where both say the same, or one says nothing."""
    for name in LATENTS:
        mine, other = (said(one, name) for one in (own, theirs))
        if None not in (mine, other) and mine != other:
            return f"{name} {mine} -> {other}"
    levels = [len(one.get("block_out_channels") or ()) for one in (own, theirs)]
    return f"levels {levels[0]} -> {levels[1]}" if all(levels) and len(set(levels)) > 1 else ""


def said(config: Mapping[str, Any], name: str) -> Any:
    """What a VAE's configuration says of its latents; None where it says nothing."""
    kind = config.get("_class_name", "") if config else ""
    return config.get(name, UNSAID.get(name) if kind == "AutoencoderKL" else None)


def refuse_other_latents(name: str, own: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """By their configurations, before or after the VAE of this name is opened."""
    if apart := latents_apart(own, theirs):
        raise UserError(
            f"the VAE {name} makes other latents than the backbone's own ({apart}); give one of "
            f"the same family"
        )


def variant_of(folder: Path) -> str | None:
    """`fp16` where a folder holds nothing but half-precision files."""
    found = [path for part in DENOISERS for path in folder.glob(f"{part}/*")]
    return variant_in(path.relative_to(folder).as_posix() for path in found)
