"""Concepts of the Hugging Face hub: `owner/name` or `owner/name@revision` in, a file in its cache
out. Imports no torch.

Of a repository one small safetensors file is taken, and nothing else is looked at.
"""

import re
from pathlib import Path
from typing import Any

from perfusion_core.errors import UserError
from perfusion_core.hub import amount, announce, broken, first_line

NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(?:@[\w./-]+)?")
FILE = re.compile(r"[\w-][\w .()+-]*\.safetensors")  # at the root of a repository
EXPORTS = ("_emb.safetensors", "_lora.safetensors", "_bundle.safetensors")  # for other programs
MOST = 16_000_000  # bytes; a concept of Stable Diffusion 1.5 has 30,000


def is_hub_name(given: object) -> bool:
    """Whether a text is meant for the hub: it looks like a name there, and nothing here has it."""
    return (
        isinstance(given, str)
        and NAME.fullmatch(given) is not None
        and not given.endswith(".safetensors")
        and not Path(given).exists()
    )


def fetch_concept(given: str) -> Path:
    """The concept file of a repository, complete, in the hub's cache; its folder is the commit."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import (
        DryRunError,
        HfHubHTTPError,
        HFValidationError,
        RevisionNotFoundError,
    )

    hub_id, _, revision = given.partition("@")
    stops = broken()
    absent: tuple[type[BaseException], ...] = (DryRunError, *stops)
    try:
        listed = snapshot_download(hub_id, revision=revision or None, dry_run=True)
    except HFValidationError as error:
        raise UserError(
            f"{given!r} cannot be the name of a concept on the hub; write owner/name"
        ) from (error)
    except RevisionNotFoundError as error:
        raise UserError(
            f"{hub_id} has no revision {revision!r}; its page on the hub lists them"
        ) from error
    # no network, HF_HUB_OFFLINE, not allowed: what is here may do
    except absent as error:
        known = error if isinstance(error, HfHubHTTPError) else error.__cause__ or error
        return cached_concept(given, hub_id, revision or None, known)
    file = only_one(hub_id, {one.filename: one.file_size or 0 for one in listed})
    [found] = [one for one in listed if one.filename == file]
    try:
        if not found.is_cached:
            announce(hub_id, hub_id, found.commit_hash, [found.file_size or 0])
        return Path(hf_hub_download(hub_id, file, revision=found.commit_hash))
    except stops as error:
        if isinstance(error, HfHubHTTPError):
            raise not_given(given, hub_id, error) from error
        raise UserError(
            f"the download of {hub_id} stopped ({first_line(error)}); give the same command again"
        ) from error


def only_one(hub_id: str, sizes: dict[str, int]) -> str:
    """The name of the one concept file among a repository's files."""
    tensors = [name for name in sorted(sizes) if name.endswith(".safetensors")]
    exports = [name for name in tensors if name.endswith(EXPORTS)]
    found = [name for name in tensors if "/" not in name and name not in exports]
    if not found:
        why = "only files for other programs" if exports else "no .safetensors file at its root"
        raise UserError(
            f"{hub_id} on the hub is no concept: it has {why}; give a repository that was pushed "
            f"as a concept (pickles are never read)"
        )
    if len(found) > 1:
        raise UserError(
            f"{hub_id} on the hub has {len(found)} files that may be the concept "
            f"({', '.join(found)[:200]}); download the one that you want and give its path"
        )
    if not FILE.fullmatch(found[0]):
        raise UserError(
            f"{hub_id} on the hub has a file of a strange name ({found[0][:60]!r}): refused; give "
            f"another concept"
        )
    if sizes[found[0]] > MOST:
        raise UserError(
            f"{found[0]} of {hub_id} has {amount(sizes[found[0]])}, and a concept has less than "
            f"{amount(MOST)}; it was not downloaded, so check the name"
        )
    return found[0]


def cached_concept(given: str, hub_id: str, revision: str | None, error: BaseException) -> Path:
    """What an earlier download left; else one sentence with what to do."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(hub_id, revision=revision, local_files_only=True))
        sizes = {path.name: path.stat().st_size for path in folder.glob("*.safetensors")}
        if sizes:
            return folder / only_one(hub_id, sizes)
    except (LocalEntryNotFoundError, ValueError) as none:
        if isinstance(none, UserError):
            raise
    if isinstance(error, HfHubHTTPError):
        raise not_given(given, hub_id, error) from error
    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
    raise UserError(
        f"there is no file {given}, the concept {hub_id} is not in {constants.HF_HUB_CACHE}, and "
        f"{why}: give the same command once with a network, or the path of a concept file"
    ) from error


def not_given(given: str, hub_id: str, error: Any) -> UserError:
    return UserError(
        f"there is no file {given}, and the hub does not give out the concept {hub_id} "
        f"({first_line(error)}): check the name; "
        f"where a licence has to be accepted, accept it on the concept's page, then set HF_TOKEN "
        f"or type `hf auth login`"
    )
