"""`perfbench evaluate`: adapters that others trained, drawn over a suite's prompts and scored.

In: files, a trigger, a Config. Out: a run folder in which each file is a method, and the page that
says which to keep. A file that is not loaded whole, or changes nothing, ends it before anything is
written.
"""

from collections.abc import Sequence
from typing import Any

from baselines.adapter import Told, proven
from benchmarks.exchange.adapters import Adapter, find_adapters, guests_of
from benchmarks.planning.config import Config
from benchmarks.running.driver import Stops
from benchmarks.running.given_files import Guest
from benchmarks.running.prepared import Prepared, prepare_run, scorer_names
from benchmarks.running.run import run_prepared, show_plan
from benchmarks.store.run_folder import Store
from perfusion_core.errors import UserError


def evaluate(
    given: Sequence[str],
    trigger: str,
    config: Config,
    argv: Sequence[str],
    *,
    dry_run: bool = False,
    stops: Stops = Stops(),  # noqa: B008  frozen
) -> int:
    """Every file as a method of one run, then the page."""
    adapters = find_adapters(given)
    guests = guests_of(adapters, trigger)
    prepared = prepare_run(config, guests)
    if prepared.config.pairs:
        raise UserError("evaluate draws one concept a picture; leave --pairs out")
    if dry_run:
        return show_plan(prepared)
    left = unfinished(prepared)
    refuse_unfit(prepared, adapters, guests, left)
    if status := run_prepared(prepared, argv, stops=stops):
        return status
    if unfinished(prepared):  # stopped by --limit
        return 0
    from benchmarks.exchange.evaluation_page import write_page

    print(write_page(prepared, guests))
    return 0


def unfinished(prepared: Prepared) -> set[str]:
    """Methods of which a cell is left to do."""
    store = Store(prepared.folder)
    there = prepared.folder.is_dir()
    done = store.done(prepared.plan, scorer_names(prepared.models)) if there else set()
    return {cell.method for cell in prepared.plan.cells if cell.key not in done}


def refuse_unfit(
    prepared: Prepared, adapters: Sequence[Adapter], guests: Sequence[Guest], left: set[str]
) -> None:
    """Each file that is still to be drawn with, once in the backbone."""
    todo = [(one, guest) for one, guest in zip(adapters, guests) if one.name in left]
    if not todo:
        return
    backbone = opened(prepared)
    for adapter, guest in todo:
        about = guest.given.about
        told = Told(about["name"], about["kind"], about["trigger"])
        with proven(backbone, told, adapter.place, prepared.concepts[0].super_category):
            pass


def opened(prepared: Prepared) -> Any:
    """The backbone as workers open it; with Ray, whose devices are elsewhere, on this CPU."""
    from perfusion_core.backbone import Backbone

    models, here = prepared.models, prepared.config.engine != "ray"
    backbone = Backbone.open(
        models.place,
        device=prepared.device if here else "cpu",
        dtype=models.dtype if here else "float32",
        vae=models.vae.place if models.vae else None,
    )
    backbone.name = models.name
    return backbone
