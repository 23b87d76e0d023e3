"""Adapters that other programs trained, found and told apart by their keys; nothing is loaded.

In: files and folders as they were given, and the trigger. Out: `Guest`s, a method each, in the
order of their training; a sentence where a file is none that can be drawn with.
"""

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from baselines.adapter import EMBEDDING, FILE, LORA, NAME, PARTS, PEFT, PIPELINE, TOKEN, VERSION
from benchmarks.digests import digest
from benchmarks.planning.methods import method_names
from benchmarks.planning.units import Given, Method
from benchmarks.running.given_files import Guest
from benchmarks.safe_paths import problem
from benchmarks.scoring.reserved import REAL
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import file_sha256

WEIGHTS = ("pytorch_lora_weights.safetensors", "learned_embeds.safetensors")  # diffusers' names
PICKLES = (".pt", ".bin", ".ckpt", ".pth", ".pkl")
INDEX = "model_index.json"
OF_PEFT = ("adapter_config.json", "adapter_model.safetensors")  # of a folder of peft's
OF_LORA = ("lora", "hada_", "lokr_", "oft_")  # what keys of adapters have in them
SCHEDULER = "scheduler/scheduler_config.json"
SHAPES = ("config.json", ".safetensors", ".safetensors.index.json")  # files of a pipeline's part


@dataclass(frozen=True)
class Adapter:
    """One file, or the folder of one pipeline."""

    name: str
    kind: str
    place: Path
    files: tuple[tuple[str, Path], ...]  # what each is called in a fit's folder
    word: str = ""  # that an embedding's file says it is
    last: bool = False  # what a training left beside its checkpoints


def find_adapters(given: Sequence[str]) -> list[Adapter]:
    """Each path's files, in the order of the numbers in their names; else as given. A path may have
    a NAME= before it."""
    found: list[Adapter] = []
    for text in given:
        name, place = _split(text)
        places = _expanded(place)
        if name and len(places) > 1:
            raise UserError(f"{text}: a name is for one file, and {place} has {len(places)}")
        for one in places:
            last = len(places) > 1 and one.parent == place and one.name in WEIGHTS
            found.append(adapter_of(name or usual_name(one), one, last))
    for adapter in found:
        _refuse_name(adapter)
    _refuse_twice(found)
    return in_order(found)


def in_order(adapters: Sequence[Adapter]) -> list[Adapter]:
    """By the last number of each name, after what all names begin with. A name without one stands
    last: it is what the training ended with. So does one that all others go on from, as kohya's
    `my_v2` beside `my_v2-000001`. No numbers at all: as given."""
    names = [adapter.name for adapter in adapters if not adapter.last]
    alike = takewhile(lambda signs: len(set(signs)) == 1, zip(*names))
    stem = "".join(sign for sign, *_ in alike)
    start = len(stem.rstrip("0123456789"))
    after = {name[len(stem) :][:1] for name in names if name != stem}
    end = stem if after and not any(sign.isdigit() for sign in after) else None

    def place(adapter: Adapter) -> float:
        if adapter.name == end:
            return math.inf
        numbers = re.findall(r"\d+", adapter.name[start:])
        return int(numbers[-1]) if numbers and not adapter.last else math.inf

    return sorted(adapters, key=place)


def _split(text: str) -> tuple[str, Path]:
    """NAME=PATH, or a path alone."""
    name, equals, rest = text.partition("=")
    if equals and name and not Path(text).expanduser().exists() and "/" not in name:
        return name, Path(rest).expanduser()
    return "", Path(text).expanduser()


def _expanded(place: Path) -> list[Path]:
    """The files, or pipelines, of one path: a training's folder has a file an epoch, or a
    checkpoint-N a state."""
    if not place.exists():
        raise UserError(f"there is no {place}; name a .safetensors file, or a folder of them")
    if place.is_file():
        return [place.parent if _of_peft(place.parent) and place.name in OF_PEFT else place]
    if (place / INDEX).is_file() or _of_peft(place):
        return [place]
    inside = sorted(place.glob("checkpoint-*/"))
    named = [one / file for one in (*inside, place) for file in WEIGHTS if (one / file).is_file()]
    named += [one for one in inside if (one / INDEX).is_file() or _of_peft(one)]
    plain = [one for one in sorted(place.glob("*.safetensors")) if one.name not in WEIGHTS]
    found = [*named, *plain]  # diffusers' textual inversion leaves its steps beside its end
    if not found:
        pickles = [one for one in sorted(place.iterdir()) if one.suffix in PICKLES]
        if pickles:
            raise _pickle(pickles[0])
        raise UserError(
            f"{place} holds no adapter: a .safetensors file, {WEIGHTS[0]}, or {INDEX} is wanted"
        )
    return found  # links too, as in the cache of Hugging Face: the user named this folder


def _of_peft(folder: Path) -> bool:
    return all((folder / name).is_file() for name in OF_PEFT)


def usual_name(place: Path) -> str:
    """The file's stem, or its folder's name where every file of that program is called alike."""
    place = Path(os.path.abspath(place))  # as given: a link may lead to a file named by its digest
    told = place.parent.name if place.name in WEIGHTS else place.name
    stem = told.removesuffix(".safetensors")
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "adapter"


def _refuse_name(adapter: Adapter) -> None:
    """It stands in tables, in flags and in paths, beside the names of our own methods."""
    rename = f"give it another: NAME={adapter.place}"
    fine = re.fullmatch(r"\w[\w.-]*", adapter.name)
    if why := problem(adapter.name) or ("" if fine else "only letters, digits, ., - and _ can"):
        raise UserError(f"{adapter.name!r:.60} cannot name a method ({why}); {rename}")
    if adapter.name in (*method_names(), REAL, NAME):
        raise UserError(f"{adapter.name} is the name of a method of ours; {rename}")


def _refuse_twice(adapters: Iterable[Adapter]) -> None:
    seen: dict[str, Adapter] = {}
    for adapter in adapters:
        other = seen.setdefault(adapter.name.casefold(), adapter)
        if other is not adapter:
            raise UserError(
                f"{other.place} and {adapter.place} are both called {adapter.name}; give one of "
                f"them another name: NAME={adapter.place}"
            )


# ---- what is in a file ----


def adapter_of(name: str, place: Path, last: bool = False) -> Adapter:
    """A file or folder with its kind, told by its keys."""
    if place.is_dir() and _of_peft(place):
        files = tuple((file, place / file) for file in OF_PEFT)
        return Adapter(name, PEFT, place, files, last=last)
    if place.is_dir():
        return Adapter(name, PIPELINE, place, parts_of(place), last=last)
    if place.suffix in PICKLES:
        raise _pickle(place)
    if place.suffix != ".safetensors":
        raise UserError(f"{place} is not a .safetensors file, nor a folder of them")
    keys = keys_of(place)
    files = ((FILE, place),)
    if any(part in key for key in keys for part in OF_LORA):
        return Adapter(name, LORA, place, files, last=last)
    if len(keys) == 1 or set(keys) <= {"clip_l", "clip_g"}:
        word = keys[0] if len(keys) == 1 else ""  # of XL's two tensors none says it
        return Adapter(name, EMBEDDING, place, files, word, last)
    first = ", ".join(keys[:3])
    if any(key.startswith(("model.diffusion_model.", "down_blocks.", "conv_in.")) for key in keys):
        raise UserError(
            f"{place} is a whole model, and no adapter ({first}, ...); draw with it by "
            f"`perfbench run --backbone {place}`"
        )
    raise UserError(f"{place} is neither a LoRA nor an embedding: its keys are {first}, ...")


def keys_of(place: Path) -> list[str]:
    try:
        with safe_open(place, "np") as file:
            keys = sorted(file.keys())
    except (SafetensorError, OSError) as error:
        raise UserError(f"{place} is no safetensors file, or it is damaged: {error}") from None
    if not keys:
        raise UserError(f"{place} is empty: it holds no tensor")
    return keys


def parts_of(folder: Path) -> tuple[tuple[str, Path], ...]:
    """What of a pipeline decides its pictures: U-Net, text encoders and VAE, no pickle."""
    files: list[tuple[str, Path]] = []
    for part in PARTS:
        inside = sorted(path for path in (folder / part).glob("*") if path.name.endswith(SHAPES))
        weights = [path for path in inside if path.suffix == ".safetensors"]
        if (folder / part).is_dir() and not weights:
            pickled = next((p for p in (folder / part).iterdir() if p.suffix in PICKLES), None)
            raise (
                _pickle(pickled)
                if pickled
                else UserError(f"{folder / part} holds no .safetensors file")
            )
        files += [(f"{part}/{path.name}", path) for path in inside]
    if (scheduler := folder / SCHEDULER).is_file():
        files.insert(0, (SCHEDULER, scheduler))
    if gone := [path for _, path in files if not path.is_file()]:
        raise UserError(f"{gone[0]} is no file, or a link to one that is not there")
    if not any(name.startswith("unet/") for name, _ in files):
        raise UserError(
            f"{folder} has {INDEX} and no unet/, so it is no pipeline to draw with; give the whole "
            f"folder in diffusers layout"
        )
    return tuple(files)


def _pickle(place: Path) -> UserError:
    return UserError(
        f"{place} is a pickle, which can run code when it is opened, so it is refused; save it as "
        f".safetensors"
    )


# ---- as methods ----


def guests_of(adapters: Sequence[Adapter], trigger: str) -> list[Guest]:
    """A method each, whose files and trigger are part of its keys."""
    return [guest_of(adapter, trigger) for adapter in adapters]


def guest_of(adapter: Adapter, trigger: str) -> Guest:
    written = written_trigger(adapter, trigger)
    sums = {name: file_sha256(path) for name, path in adapter.files}
    about = {"kind": adapter.kind, "trigger": written, "name": adapter.name}
    method = Method(
        name=adapter.name,
        base=NAME,
        version=str(VERSION),
        trained=True,
        prior=False,
        config={},
        settings=(),
        pairs=False,
        text_side=adapter.kind == EMBEDDING,
        covariance=False,
        label=adapter.name[:40],
    )
    files = tuple((name, str(path), sums[name]) for name, path in adapter.files)
    decides = {"files": sums, "kind": adapter.kind, "trigger": written}
    return Guest(method, Given(files, digest(decides), about))


def written_trigger(adapter: Adapter, trigger: str) -> str:
    """What is written for the concept. An embedding's own word is written as TOKEN: what it is
    called changes no picture, and it cannot be a word that there is already."""
    if trigger.count("{}") > 1 or set("{}") & set(trigger.replace("{}", "")):
        raise UserError(
            f"--trigger {trigger!r:.60}: one {{}} at most, where the kind of thing stands"
        )
    if not trigger.isprintable() or len(trigger) > 200:
        raise UserError(f"--trigger {trigger!r:.60}: at most 200 signs that can be printed")
    words = trigger.split()
    if adapter.kind != EMBEDDING:
        if not words:
            raise UserError(
                f'{adapter.place}: which words was it trained with? Write --trigger "sks {{}}", '
                f"with {{}} where the kind of thing stands"
            )
        return " ".join(words)
    own = [word for word in words if word != "{}"]
    if len(own) > 1 and adapter.word in own:
        own = [adapter.word]
    if len(own) > 1:
        raise UserError(
            f"--trigger {trigger!r:.60}: which word is the embedding {adapter.place}? Write it "
            f'alone, or beside {{}}: --trigger "{adapter.name} {{}}"'
        )
    if not own:
        return " ".join([TOKEN, *words])
    return " ".join(TOKEN if word in own else word for word in words)
