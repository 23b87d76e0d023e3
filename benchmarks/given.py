"""Trained files that a run is given instead of training them: `--trained METHOD=PLACE`. No torch.

In: places, each another run's folder, or a folder that has a folder of files (for Perfusion: or one file) a concept.
Out: `Given` for each method and concept, which the plan needs; and the files in a fit's folder.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.config import digest
from benchmarks.disk import digests_of, file_sha256, read_json, verified
from benchmarks.methods import VARIANTS, Variant
from benchmarks.plan import Given, Method
from benchmarks.store import fit_folder, planned_fits
from perfusion_core.errors import UserError

ABOUT = "fit.json"
FILES = {"perfusion": "concept.safetensors"}  # methods whose fit is one file


def trained_places(given: Sequence[str]) -> dict[str, str]:
    """METHOD=PLACE, several of them."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, place = text.partition("=")
        if not (name and equals and place):
            raise UserError(f"--trained {text!r} is not METHOD=PLACE; write for example perfusion=results/my-run")
        if name in found:
            raise UserError(f"--trained names {name} twice ({found[name]} and {place})")
        found[name] = place
    return found


def find_given(
    given: Sequence[str], methods: Sequence[Method], concepts: Sequence[str]
) -> dict[tuple[str, str], Given]:
    """The trained files of every method that is given some, for every concept; variants at run time share them."""
    places = trained_places(given)
    known = {method.name: method for method in methods if method.trained}
    for name, place in places.items():
        if name not in known:
            raise UserError(f"--trained {name}={place}: this run trains {', '.join(known) or 'no method'}, not {name}")
    found = {(n, concept): _of(Path(place), known[n], concept) for n, place in places.items() for concept in concepts}
    for name, method in known.items():
        if name not in places and method.base in places and at_run_time(name):
            found |= {(name, concept): found[method.base, concept] for concept in concepts}
    return found


def at_run_time(name: str) -> bool:
    """Whether a variant trains as its base does."""
    return name in VARIANTS and VARIANTS[name] == Variant(VARIANTS[name].base, points=VARIANTS[name].points)


def _of(place: Path, method: Method, concept: str) -> Given:
    found = _in_run(place, method) if (place / "run.json").is_file() else _in_folder(place, method)
    if concept not in found:
        raise UserError(
            f"--trained {method.name}={place}: no trained files of {method.name} for {concept} there"
            + (f" (there are {', '.join(sorted(found))})" if found else "")
        )
    path = found[concept]
    if path.is_file():
        return Given(((FILES[method.base], str(path)),), digest({FILES[method.base]: file_sha256(path)}))
    manifest = read_json(path / ABOUT) or {}
    if "files" in manifest and verified(path, ABOUT, manifest["key"]) is None:
        raise UserError(f"--trained {method.name}={place}: {path} is damaged: its files are not those it was made with")
    about = {key: value for key, value in manifest.items() if key not in ("key", "files")}
    files = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return Given(tuple((name, str(path / name)) for name in files if name != ABOUT), digest(final(path)), about)


def final(folder: Path) -> dict[str, str]:
    """sha256 of a fit's files, without the states kept on the way."""
    found = digests_of(folder)
    return {name: file["sha256"] for name, file in found.items() if name != ABOUT and not name.startswith("step-")}


def _in_run(run: Path, method: Method) -> dict[str, Path]:
    return {
        concept: fit_folder(run, about["method"], concept, about["key"])
        for name, concept, about in planned_fits(run)
        if name == method.name
    }


def _in_folder(place: Path, method: Method) -> dict[str, Path]:
    inside = {path.relative_to(place).parts[0] for path in place.glob("*/**/*.safetensors")}
    found = {name: place / name for name in inside}
    if method.base in FILES:
        found |= {path.stem: path for path in place.glob("*.safetensors")}
    return found


def copy(given: Given, keep: Sequence[int], out: Path) -> dict[str, Any]:
    """The files, and what fit.json told of their training; refused where they are not those of the plan any more."""
    steps = {f"step-{step}" for step in keep}
    for name, path in given.files:
        if not name.startswith("step-") or name.split("/")[0] in steps:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, out / name)
    if digest(final(out)) != given.digest:
        place = Path(given.files[0][1]).parent
        raise UserError(f"{place} has changed since the run was planned; give the command again")
    return {"seconds": 0.0, **given.about, "given": given.digest}
