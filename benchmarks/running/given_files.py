"""Trained files that a run is given instead of training them: `--trained METHOD=PLACE`. No torch.

In: places, each another run's folder, or a folder that has a folder of files (for Perfusion: or one
file) a concept. Out: `Given` for each method and concept, which the plan needs; and their copies in
the run folder.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from benchmarks.digests import digest
from benchmarks.disk import digests_of, on_disk, read_json, verified
from benchmarks.options import named
from benchmarks.planning.method_text import Said, said_of
from benchmarks.planning.methods import sources
from benchmarks.planning.units import Cell, Fit, Given, Method, step_of
from benchmarks.running.trained_kinds import refuse_other_kinds
from benchmarks.safe_paths import below, safe_parts
from benchmarks.store.reading import planned_fits, read_run, refuse_older
from benchmarks.store.run_folder import MANIFEST, Store, fit_folder
from benchmarks.suite.concept_folder import Concept
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import file_sha256

ABOUT = MANIFEST[Fit]


@dataclass(frozen=True)
class Guest:
    """A method that comes with its trained files, the same for every concept of the run."""

    method: Method
    given: Given


def given_by(guests: Iterable[Guest], concepts: Iterable[Concept]) -> dict[tuple[str, str], Given]:
    """Their files by names of method and concept, as `find_given` has those of --trained."""
    names = [concept.name for concept in concepts]
    return {(guest.method.name, name): guest.given for guest in guests for name in names}


def trained_places(given: Sequence[str]) -> dict[str, Path]:
    """METHOD=PLACE, several of them."""
    found = named(given, "--trained", "METHOD=PLACE; write for example perfusion=results/my-run")
    return {name: Path(place).expanduser() for name, place in found.items()}


def find_given(
    given: Sequence[str],
    methods: Sequence[Method],
    concepts: Iterable[Concept],
    paired: Iterable[Concept] = (),
    method_files: Sequence[str] = (),
) -> dict[tuple[str, str], Given]:
    """The trained files of every method that is given some, by names of method and concept;
    `paired`: concepts that stand in pairs. A variant that trains as its base does shares them."""
    places = trained_places(given)
    kinds = {name: said_of(where) for name, where in sources(method_files).items() if places}
    known = {method.name: method for method in methods if method.trained}
    single, every = ({one.name: one for one in some} for some in (concepts, (*concepts, *paired)))
    found: dict[tuple[str, str], Given] = {}
    for name, place in places.items():
        if name not in known:
            raise UserError(
                f"--trained {name}={place}: this run trains {', '.join(known) or 'no method'}, "
                f"not {name}"
            )
        there = (
            _in_run(place, known[name])
            if (place / "run.json").is_file()
            else _in_folder(place, known[name])
        )
        for concept in (every if known[name].pairs else single).values():
            found[name, concept.name] = _of(place, known[name], concept, there, kinds)
    for name, method in known.items():
        if (
            name not in places
            and method.base in places
            and _trains_alike(method, known[method.base])
        ):
            found |= {
                (name, concept): files
                for (base, concept), files in found.items()
                if base == method.base
            }
    return found


def _trains_alike(a: Method, b: Method) -> bool:
    return (a.version, a.select, dict(a.config)) == (b.version, b.select, dict(b.config))


def _of(
    place: Path,
    method: Method,
    concept: Concept,
    there: Mapping[str, Path],
    kinds: Mapping[str, Said],
) -> Given:
    """What is there of one concept; each file with its digest, which its copy must have."""
    said, name = f"--trained {method.name}={place}", concept.name
    if name not in there:
        known = (
            f"there are {', '.join(sorted(there))}"
            if there
            else f"a run, or a folder with {name}/, is wanted"
        )
        raise UserError(f"{said}: no trained files of {method.name} for {name} there ({known})")
    _refuse_another(said, place, concept)
    path = below(place, *there[name].relative_to(place).parts)
    if path.is_file():
        files = {method.one_file: path}
        sums = {method.one_file: file_sha256(path)}
        about: dict[str, Any] = {}
    else:
        about = read_json(below(path, ABOUT)) or {}
        if "files" in about and verified(path, ABOUT, about.get("key", "")) is None:
            raise UserError(
                f"{said}: {path} is damaged: its files are not those it was made with; give "
                f"another place, or make that run again"
            )
        recorded = about.get("files") or digests_of(path)
        sums = {file: one["sha256"] for file, one in sorted(recorded.items()) if file != ABOUT}
        files = {file: below(path, *safe_parts(file, f"{said}: the file")) for file in sums}
    refuse_other_kinds(said, files, method.base, kinds)
    if method.one_file:
        for file in (
            method.one_file,
            *(file for file in files if file.endswith(f"/{method.one_file}")),
        ):
            _refuse_foreign(said, files.get(file, path / file), method, concept)
    about = {key: value for key, value in about.items() if key not in ("key", "files")}
    return Given(tuple((file, str(files[file]), sums[file]) for file in sums), digest(sums), about)


def _refuse_another(said: str, place: Path, concept: Concept) -> None:
    """A run whose concept of this name is not the one that is asked for."""
    if not (place / "run.json").is_file():
        return
    about = read_run(place)
    refuse_older(place, about)
    known = about.get("digests", {}).get("concepts", {})
    if not concept.digest.startswith(str(known.get(concept.name, ""))):
        raise UserError(
            f"{said}: that run's {concept.name} is another concept (other images, or another "
            f"super-category); "
            "rename one of the two"
        )


def _refuse_foreign(said: str, path: Path, method: Method, concept: Concept) -> None:
    """A file that does not say of what kind its concept is, or says another one."""
    foreign = f"{said}: {path} is no {method.one_file} that {method.base} trained"
    try:
        with safe_open(path, "np") as file:
            kind = (file.metadata() or {}).get("super_category")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{foreign}, or it is damaged: {error}") from None
    if not kind:
        raise UserError(f"{foreign}: its header names no super_category")
    if kind != concept.super_category:
        raise UserError(
            f"{said}: {path} is a concept of the kind {kind!r}; {concept.name} is a "
            f"{concept.super_category}"
        )


def _in_run(run: Path, method: Method) -> dict[str, Path]:
    """concept -> the folder of the fit that the run's plan names."""
    keys: dict[str, str] = {}
    for name, concept, about in planned_fits(run):
        if name == method.name and keys.setdefault(concept, about["key"]) != about["key"]:
            raise UserError(
                f"--trained {name}={run}: the run has two different fits of {name} for {concept}; "
                "give the commands that made it again, so that all of it is of one fit"
            )
    return {concept: fit_folder(run, method.base, concept, key) for concept, key in keys.items()}


def _in_folder(place: Path, method: Method) -> dict[str, Path]:
    inside = {path.relative_to(place).parts[0] for path in place.glob("*/**/*.safetensors")}
    found = {name: place / name for name in inside}
    if method.one_file:
        found |= {path.stem: path for path in place.glob("*.safetensors")}
    return found


# ---- into the run folder ----


def place_given(store: Store, cells: Iterable[Cell], done: set[str]) -> set[str]:
    """Copy what cells that are left need; -> keys. The driver does it, because workers may be on
    other machines.
    """
    fits = {
        fit.key: fit
        for cell in cells
        if cell.key not in done
        for fit in cell.fits
        if fit.key not in done
    }
    placed = set()
    for key, fit in fits.items():
        if fit.given is None:
            continue
        with store.locks.locked(key):
            if not store.verified(fit):  # another run in this folder may have been faster
                with store.aside(key) as out:
                    about = copy(store.root, fit.given, fit.keep, out)
                    store.publish(fit, out, {**about, "method": fit.method, "concept": fit.concept})
        placed.add(key)
    return placed


def copy(run: Path, given: Given, keep: Sequence[int], out: Path) -> dict[str, Any]:
    """The files, and what fit.json told of their training; refused where they are not those of the
    plan any more.
    """
    for name, source, sha256 in given.files:
        if (step := step_of(name)) is not None and step not in keep:
            continue
        target = below(out, *safe_parts(name))
        if Path(source).is_file():
            with on_disk(run):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        if not target.is_file() or file_sha256(target) != sha256:
            raise UserError(
                f"{source} has changed since the run was planned; give the command again"
            )
    return {**given.about, "given": given.digest}
