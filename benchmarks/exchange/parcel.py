"""What may be sent to the hub: one concept, and files that were exported of it for other programs.

In: a file or a folder. Out: a `Parcel`; one sentence for anything else. A pickle is never opened
nor sent.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.disk import read_json
from benchmarks.planning.units import Fit
from benchmarks.store.run_folder import MANIFEST
from perfusion_core.concept import Concept
from perfusion_core.errors import NotAConcept, UserError
from perfusion_core.hub import HUB
from perfusion_core.hub_concepts import EXPORTS, FILE, MOST, NAME
from perfusion_core.text_encoders import FILE_KEYS

HEADER = 10_000_000  # bytes; the header of an export has some thousands
BUNDLED = 64 * MOST
FIT = MANIFEST[Fit]
UNTUNED = "perfbench.untuned"  # in the header of an export
CONCEPTS = "perfbench.concepts"  # in that of every export of concepts


@dataclass(frozen=True)
class Parcel:
    """The safetensors files, and what their headers say."""

    files: tuple[Path, ...]  # the concept first
    concept: Concept | None  # None where there are exports alone
    exports: Mapping[str, Mapping[str, str]]  # file name -> its header's metadata

    @property
    def words(self) -> list[str]:
        """What stands in a prompt; of an export the name of each of its embeddings."""
        if self.concept:
            return [self.concept.placeholder]
        names = [name for name in self.exports if name.endswith(EXPORTS[0])]
        return [name.removesuffix(".safetensors") for name in names or [*self.exports][:1]]

    @property
    def joint(self) -> bool:
        """Whether it is for a backbone with two text encoders."""
        told = [header.get("modelspec.architecture", "") for header in self.exports.values()]
        own = self.concept is not None and len(self.concept.widths) > 1
        words = [path for path in self.files if path.name.endswith(EXPORTS[0])]
        return (
            own
            or any(name.startswith("stable-diffusion-xl") for name in told)
            or any(header_of(path).keys() >= {*FILE_KEYS} for path in words)
        )

    @property
    def perfusion(self) -> bool:
        """Whether Perfusion trained it: LoRAs and embeddings of other methods can be sent, too."""
        return self.concept is not None or any(CONCEPTS in one for one in self.exports.values())

    @property
    def untuned(self) -> bool:
        """Whether the rates that it was trained by are a guess for its backbone."""
        own = [path for path in self.files if path.name not in self.exports]
        return any(map(is_untuned, own)) or any(UNTUNED in one for one in self.exports.values())

    @property
    def title(self) -> str:
        return " and ".join(self.words)

    @property
    def backbone(self) -> str:
        """Its name, without the digest behind it."""
        told = [header.get("perfbench.backbone", "") for header in self.exports.values()]
        known = self.concept.backbone if self.concept else next(filter(None, told), "")
        return known.rsplit(" ", 1)[0]

    @property
    def base_model(self) -> str:
        """The hub id of the backbone; empty where it was made on a folder of somebody's."""
        name = HUB.get(self.backbone, self.backbone)
        return name if NAME.fullmatch(name) and "@" not in name else ""


def parcel(what: Path) -> Parcel:
    """Of one file, or of the safetensors files of a folder."""
    if not what.exists():
        raise UserError(f"there is no {what}; give a concept file, or the folder of an export")
    if what.is_file() and what.suffix != ".safetensors":
        raise UserError(
            f"{what} is no .safetensors file, and nothing else is sent, because pickles run code "
            f"where they are opened; save it as .safetensors"
        )
    files = sorted(what.glob("*.safetensors")) if what.is_dir() else [what]
    if not files:
        raise UserError(
            f"{what} has no .safetensors file, so there is nothing to send; give a concept file, "
            f"or the folder of an export"
        )
    concepts: list[tuple[Path, Concept]] = []
    exports: dict[str, Mapping[str, str]] = {}
    for file in files:
        check_name(file)
        if file.name.endswith(EXPORTS):
            exports[file.name] = export_header(file)
        else:
            concepts.append((file, loaded(file)))
    if len(concepts) > 1:
        names = ", ".join(file.name for file, _ in concepts)
        raise UserError(f"{what} has {len(concepts)} concepts ({names}); give one of these files")
    ours = [file for file, _ in concepts]
    return Parcel(
        files=(*ours, *(file for file in files if file not in ours)),
        concept=concepts[0][1] if concepts else None,
        exports=exports,
    )


def is_untuned(file: Path) -> bool:
    """What `perfbench fit` tells of the rates, beside a file or in its folder."""
    beside = (read_json(path) for path in (file.with_suffix(".json"), file.with_name(FIT)))
    told = next((one for one in beside if one is not None), {})
    return told.get("untuned") is True


def check_name(file: Path) -> None:
    if not FILE.fullmatch(file.name):
        raise UserError(
            f"the name {file.name[:60]!r} would be refused where it is opened again; rename the "
            f"file to letters, digits, _ and -"
        )


def loaded(file: Path) -> Concept:
    try:
        return Concept.load(file)
    except NotAConcept as error:
        raise UserError(
            f"{file} is neither a concept nor named as an export ({', '.join(EXPORTS)}); "
            f"`perfbench fit perfusion` makes the one, `perfbench export` the other"
        ) from error


def header_of(file: Path) -> dict[str, Any]:
    """The header of a whole safetensors file; an error tells what is wrong with it."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(HEADER, file.stat().st_size):
            raise ValueError("its header is cut off")
        header: dict[str, Any] = json.loads(stream.read(length))
    ends = [one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"]
    if 8 + length + max(ends) != file.stat().st_size:
        raise ValueError("its end is missing")
    return header


def export_header(file: Path) -> Mapping[str, str]:
    """The metadata of a file whose tensors are those of a LoRA, an embedding, or both."""
    try:
        header = header_of(file)
        told = header.pop("__metadata__", {})
        if not isinstance(told, dict):
            raise ValueError("its metadata are no texts")
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is no safetensors file, or it is truncated: {error}") from error
    word = len(header) == 1 or header.keys() == {*FILE_KEYS}
    single = word and file.name.endswith(EXPORTS[0])
    if not (single or any(name.startswith(("lora_", "bundle_emb")) for name in header)):
        raise UserError(
            f"{file} holds neither an embedding nor a LoRA, whatever its name says; make the "
            f"export again, or take the file out"
        )
    if file.stat().st_size > BUNDLED:
        raise UserError(f"{file} is too large for an export; nothing is sent")
    return {str(key): str(text) for key, text in told.items()}
