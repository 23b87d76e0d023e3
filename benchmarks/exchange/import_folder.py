"""The run folder that pictures are imported into: one that is there, or a new one.

In: a folder, or what a new one is to be about. Out: an `Into`, of which nothing is written yet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.disk import ask_for
from benchmarks.planning.backbones import Models, check_texts, find_models
from benchmarks.planning.config import Config, resolve
from benchmarks.planning.kinds import kind_here
from benchmarks.running.prepared import open_catalog, with_suite
from benchmarks.running.refusals import refuse_preset
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.lookup import SD_SCORER, Scorer
from benchmarks.store import run_json
from benchmarks.store.reading import (
    imported_methods,
    read_cells,
    read_run,
    refuse_older,
    refuse_without,
)
from benchmarks.store.run_folder import Store
from benchmarks.suite.catalog import Catalog
from benchmarks.suite.generated import GENERATED
from perfusion_core.errors import UserError

MINIATURE = "miniature"  # as backbone, suite and scorer
ELSEWHERE = "elsewhere"  # the backbone of a folder in which nothing is drawn
LARGEST, MOST = 4096, 1_000_000  # pixels of a side, and images of a prompt, that are believed
SIDE = 512  # pixels of a concept's pictures where no backbone says it
NEEDED = ("config.suite", "backbone.id", "backbone.size", "protocol.images", "digests.concepts")


@dataclass(frozen=True)
class Wishes:
    """What a new folder is to be about; of one that is there, it is known."""

    suite: str = ""
    backbone: str = ""
    scorers: tuple[str, ...] = ()
    preset: str = ""


@dataclass(frozen=True)
class Into:
    """A folder, known or to be made."""

    store: Store
    catalog: Catalog | None  # None: the suite of a known run is not here
    size: int  # pixels of the concepts' pictures
    images: int  # a prompt; 0: as many as the pictures have
    about: Mapping[str, Any]  # run.json; empty for a new folder
    planned: tuple[CellRow, ...]
    config: Config | None = None  # of a new folder
    models: Models | None = None

    @property
    def imported(self) -> set[str]:
        return imported_methods(self.about)


def open_into(out: Path, wishes: Wishes) -> Into:
    """The folder as it is, or what a new one needs."""
    if (out / "run.json").exists():
        return known_folder(out, wishes)
    if out.is_dir() and any(out.iterdir()):
        raise UserError(
            f"{out} has files in it and is no run folder: give a run folder, or a new place, "
            f"with --out"
        )
    ask_for(out)
    return new_folder(out, wishes)


def known_folder(out: Path, wishes: Wishes) -> Into:
    about = read_run(out)
    refuse_older(out, about)
    refuse_without(out, about, NEEDED)
    suite, size, images = about["config"]["suite"], about["backbone"]["size"], images_of(about)
    whole = isinstance(suite, str) and type(size) is int and 0 < size <= LARGEST and images
    if not (whole and run_json.can_go_on(about)):
        raise UserError(
            f"{out / 'run.json'} is damaged: what it says of its suite, sizes or digests is not "
            f"what a run writes; make that run again"
        )
    refuse_other_wishes(out, about["config"], wishes)
    backbone = about["config"].get("backbone")
    try:
        catalog = open_catalog(Config(suite=suite, backbone=str(backbone or MINIATURE)))
    except UserError:  # of somebody else's machine: what the run has planned is known without it
        catalog = None
    return Into(Store(out), catalog, size, images, about, tuple(read_cells(out)))


def images_of(about: Mapping[str, Any]) -> int:
    """Of a prompt, by the run's protocol; 0 where it does not tell."""
    images = about["protocol"]["images"]
    return images if type(images) is int and 0 < images <= MOST else 0


def refuse_other_wishes(out: Path, config: Mapping[str, Any], wishes: Wishes) -> None:
    """The words that made a folder may be given again; others are for another folder."""
    wishes = without_miniature(wishes)
    for flag in ("suite", "backbone", "scorers", "preset"):
        given, has = run_json.anonymous(getattr(wishes, flag)), config.get(flag)
        if given and given != has:
            words = [",".join(one) if isinstance(one, list) else one for one in (given, has)]
            own = f"{flag} {words[1]}" if words[1] else f"the usual {flag}"
            raise UserError(
                f"--{flag} {words[0]}: {out} is a run with {own}; leave it out, or give a new "
                f"place with --out"
            )


def without_miniature(wishes: Wishes) -> Wishes:
    """`--scorers miniature` is the miniature's own scorer."""
    if wishes.scorers != (MINIATURE,):
        return wishes
    return replace(wishes, backbone=wishes.backbone or MINIATURE, scorers=())


def new_folder(out: Path, wishes: Wishes) -> Into:
    """Without --backbone the miniature's suites have the miniature; in any other nothing is drawn,
    so that pictures are scored without one."""
    wishes = without_miniature(wishes)
    backbone, scorers = wishes.backbone, wishes.scorers
    of_miniature = wishes.suite.partition(":")[0] in ("", MINIATURE, "tuning", *GENERATED)
    backbone = backbone or (MINIATURE if of_miniature else "")
    flags = {
        "suite": wishes.suite,
        "backbone": backbone or ELSEWHERE,
        "scorers": scorers or (None if backbone else (SD_SCORER,)),
        "out": str(out),
    }
    config = resolve(preset=wishes.preset, flags=flags)
    if kind := kind_here(backbone) if backbone else None:
        refuse_preset(kind, config.preset)
    check_texts(config)
    catalog = open_catalog(config)
    config = with_suite(config, catalog)
    check = partial(refuse_preset, preset=config.preset)
    models = find_models(config, check) if backbone else without_backbone(config.scorers)
    images = config.images if wishes.preset else 0
    return Into(Store(out), catalog, models.size, images, {}, (), config, models)


def without_backbone(scorers: Sequence[str]) -> Models:
    from benchmarks.running.measure import scorer_of

    none = Scorer("none", "", "", "", "")
    found = tuple(map(scorer_of, scorers))
    return Models(ELSEWHERE, "", "", "", "", "", SIDE, 0, False, found, none)


def first_about(
    into: Into, methods: Sequence[str], concepts: Sequence[str], images: int, argv: Sequence[str]
) -> dict[str, Any]:
    """run.json of a new folder, without what was imported."""
    assert into.config and into.models and into.catalog
    config = replace(
        into.config, methods=tuple(methods), concepts=tuple(concepts), images=images, out=""
    )
    return run_json.about_run(
        {},
        config,
        into.models,
        (),
        argv=argv,
        protocol=run_json.resolved_protocol(config, into.models, into.catalog),
        digests={},
        words={},
        device="cpu",
    )
