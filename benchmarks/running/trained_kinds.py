"""Of which method trained files are, by their names and those of their tensors. No torch.

In: the files of a fit, what methods' files say of theirs (FILES). Out: nothing, or one sentence
that names a file, whose it is, and whose is wanted.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from safetensors import SafetensorError, safe_open

from benchmarks.planning.method_text import Said
from benchmarks.planning.units import step_of
from perfusion_core.errors import UserError

Tensors = Mapping[str, Collection[str]]  # file -> the names of what it holds
SUFFIX = ".safetensors"
ANY = "?"  # a pattern for this one is for any name, and tells no kind


def refuse_other_kinds(
    given: str, files: Mapping[str, Path], wanted: str, known: Mapping[str, Said]
) -> None:
    """By what the method's file says; by nothing where it does not say. Kept states are asked
    alike. `files`: by their names in a fit's folder; `known`: methods by name.
    """
    if wanted not in known or not known[wanted].files:
        return
    states: dict[int | None, dict[str, Path]] = {}
    for name, path in files.items():
        if name.endswith(SUFFIX):
            step = step_of(name)
            inside = name if step is None else name.partition("/")[2]
            states.setdefault(step, {})[inside] = path
    for state in states.values():
        _refuse_state(given, state, wanted, known)


def _refuse_state(
    given: str, files: Mapping[str, Path], wanted: str, known: Mapping[str, Said]
) -> None:
    found = {name: tensors_in(given, path) for name, path in files.items()}
    theirs = {name: files_of(one.files, found) for name, one in known.items()}
    mine = theirs[wanted]
    kinds = [name for name in known if theirs[name] > mine]
    if mine and not kinds:
        return
    kinds = [name for name in kinds if not any(theirs[name] < theirs[other] for other in kinds)]
    odd = min(theirs[kinds[0]] - mine) if kinds else min(found)
    named = " or ".join(kinds or known_by(found[odd], known)) or "no method that is known here"
    raise UserError(f"{given}: {files[odd]} is of {named}, and a file of {wanted} is wanted")


def tensors_in(given: str, path: Path) -> list[str]:
    try:
        with safe_open(path, "np") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{given}: {path} is no safetensors file, or it is damaged: {error}"
        ) from None


def files_of(said: Mapping[str, str], found: Tensors) -> set[str]:
    """Those among them that a method says are its own; none where one that it says is missing."""
    each = [
        {
            name
            for name, tensors in found.items()
            if name.count("/") == place.count("/")
            and fnmatchcase(name, place)
            and all_like(pattern, tensors)
        }
        for place, pattern in said.items()
    ]
    return set[str]().union(*each) if all(each) else set()


def known_by(tensors: Collection[str], known: Mapping[str, Said]) -> list[str]:
    """The methods of a file under another name: rather those for which one file is all."""
    parts = [
        name
        for name, one in known.items()
        if any(all_like(pattern, tensors) for pattern in telling(one.files.values()))
    ]
    whole = [name for name in parts if len(known[name].files) == 1]
    return [name for name in whole if known[name].one_file] or whole or parts


def telling(patterns: Iterable[str]) -> list[str]:
    return [pattern for pattern in patterns if not all_like(pattern, [ANY])]


def all_like(pattern: str, tensors: Collection[str]) -> bool:
    """Whether there are some, and each has a name like this."""
    return bool(tensors) and all(re.fullmatch(pattern, name) for name in tensors)
