"""`perfbench fit`: one concept trained, outside a benchmark.

In: the verb's arguments. Out: a concept file, or a method's folder.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.planning import methods
from benchmarks.running.trackers import targets
from perfusion_core.errors import UserError, unknown

PURPOSES = ("lora",)  # of `fit --for`


def fit(args: argparse.Namespace) -> None:
    """Train as a benchmark would, with the same recipe, seed, class images and validation; print
    what was written.
    """
    where = targets(args.log)
    files = tuple(filter(None, (args.method_files or "").split(",")))
    methods.check_name(args.method, files)  # before anything that takes seconds to load
    from benchmarks.disk import ask_for, remove
    from benchmarks.disk import replace as replace_file
    from benchmarks.planning.config import resolve
    from benchmarks.planning.kinds import kind_here
    from benchmarks.running.familiar import warnings_of
    from benchmarks.running.prepared import (
        concept_key,
        frames_of,
        pictures,
        planned_concepts,
        prepare_run,
    )
    from benchmarks.running.tasks import Event, Job
    from benchmarks.running.training_log import TrainingLog
    from benchmarks.running.worker import Worker
    from benchmarks.store.run_folder import FITTING, Store
    from benchmarks.suite.concept_masks import make_missing
    from perfusion_core.training import bar

    out = Path(args.out)
    as_file = out.suffix == ".safetensors"
    said = methods.said(methods.variant(args.method, files).base, files)
    one_file = said.one_file
    if not said.trained:
        raise UserError(f"{args.method} has nothing to train; `perfbench run` draws with it")
    if args.purpose not in (None, *PURPOSES):
        raise unknown("purpose", args.purpose, PURPOSES)
    if args.purpose and not said.for_lora:
        raise UserError(
            f"{args.method} trains nothing that becomes a LoRA; leave --for out, or fit perfusion"
        )
    if as_file and not one_file:
        raise UserError(
            f"{args.method} leaves a folder, not one file; write --out {out.with_suffix('')}"
        )
    if not as_file and out.suffix and one_file:
        raise UserError(
            f"a concept file ends in .safetensors; write --out {out.with_suffix('.safetensors')}"
        )
    for place in [out, out.with_suffix(".json")] if as_file else [out]:
        if place.exists() and not args.overwrite:
            raise UserError(
                f"{place} is there already; give --out another name, or --overwrite replaces it"
            )
    if as_file and out.is_dir():
        raise UserError(f"{out} is a folder, and a file is wanted; give --out another name")
    ask_for(out)
    given = Path(args.concept)
    concept = str(given.resolve()) if (given / "concept.toml").is_file() else args.concept
    flags = {
        "methods": args.method,
        "concepts": concept,
        "prompts": "1",
        "backbone": args.backbone,
        "dtype": args.dtype,
    }
    flags |= {"revision": args.revision, "device": args.device, "seed": args.seed}
    flags |= {"suite": args.suite, "masks": args.masks, "method_files": args.method_files}
    flags |= {"vae": args.vae}
    steps = [f"steps={args.steps}"] if args.steps else []
    exact = said.for_lora if args.purpose else {}
    whole = ("fit.", "select_scorer=")  # any other key is one of the method's
    sets = [
        text if text.startswith(whole) else f"fit.{args.method}.{text}"
        for text in [*steps, *args.sets, *(f"{key}={value}" for key, value in exact.items())]
    ]
    known = kind_here(args.backbone, args.revision or "")
    preset = preset_for(known.joint, known.miniature("auto")) if known else ""
    # nothing is reported: fetch none
    prepared = prepare_run(replace(resolve(preset=preset, flags=flags, sets=sets), scorers=()))
    models = prepared.models
    if not known and (preset := preset_for(models.joint, models.miniature)):
        prepared = prepare_run(replace(resolve(preset=preset, flags=flags, sets=sets), scorers=()))
    if len(chosen := planned_concepts(prepared)) > 1:
        raise UserError(
            f"--concept {args.concept} is {len(chosen)} concepts, and one is trained at a time: "
            f"give the command for each, such as --concept {chosen[0].name}"
        )
    for told in warnings_of(planned_concepts(prepared), prepared.models, prepared.device):
        print(f"perfbench: {told}", file=sys.stderr)
    store = Store(out.parent / f".{out.name}.fit")  # an interrupted training goes on from here
    store.locks.try_lock(FITTING)  # until this process ends: `perfbench clean` leaves it alone
    make_missing(planned_concepts(prepared), prepared.config.clipseg, prepared.device)
    for one in planned_concepts(prepared):
        store.publish_concept(
            one.name,
            concept_key(one, prepared.models.size),
            partial(pictures, one, prepared.models.size),
        )
    job = Job(
        config=prepared.config,
        models=prepared.models,
        asymmetric=frozenset(c.name for c in planned_concepts(prepared) if c.asymmetric),
        validation=prepared.catalog.validation,
        every_prompt=False,
        device=prepared.device,
        frames=frames_of(planned_concepts(prepared), prepared.models),
        watched=bool(where),
    )
    watch = TrainingLog(where, out.stem, {"method": args.method, "concept": chosen[0].name})
    worker = Worker(job, store, watch.handle)
    unit = next(fit for fit in prepared.plan.fits if fit.method)
    if unit.prior and not store.verified(unit.prior):
        print(
            f"perfbench: {len(unit.prior.seeds)} class images of {unit.prior.super_category!r} "
            f"first",
            file=sys.stderr,
        )
    folder = store.root / unit.key
    module = worker.method(unit.method)
    config = module.Config(**unit.config)
    shown = bar(f"{args.method} {unit.concept}", getattr(config, "batch", 1))

    def progress(step: int, steps: int, loss: float) -> None:
        shown(step, steps, loss)
        watch.handle(Event("step", unit, step=step, numbers={"loss": loss}))

    try:
        about = module.fit(
            worker.backbone,
            worker.subject(unit),
            config,
            folder,
            seed=unit.seed,
            prior=class_images(worker, unit),
            validate=worker.validation(unit),
            progress=progress,
        )
        watch.trained(unit, about)
    finally:
        worker.close()
        watch.close()
    if any(method.untuned for method in prepared.methods if method.name == args.method):
        about["untuned"] = True  # cards of the hub say so
    (folder / "fit.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    if as_file:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(folder / one_file, out)
        replace_file(folder / "fit.json", out.with_suffix(".json"))
    else:
        replace_file(folder, out)
    remove(store.root)
    tell(about, out)


def preset_for(joint: bool, miniature: bool) -> str:
    """Whose recipes, scheduler and guidance a backbone's fits take; empty: the usual ones."""
    from benchmarks.planning.kinds import XL

    return XL if joint and not miniature else ""


def class_images(worker: Any, unit: Any) -> Any:
    """The prior's pictures, drawn once and kept until the fit is done."""
    if unit.prior is None:
        return None
    import numpy as np
    from PIL import Image

    if not worker.store.verified(unit.prior):
        worker.make(unit.prior)
    paths = sorted(worker.store.folder(unit.prior).glob("*.png"), key=lambda path: int(path.stem))
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def tell(about: Mapping[str, Any], out: Path) -> None:
    score = f", validation {about['score']:.4f}" if about.get("score") is not None else ""
    size = sum(
        path.stat().st_size
        for path in ([out] if out.is_file() else out.rglob("*"))
        if path.is_file()
    )
    print(
        f"perfbench: step {about.get('steps')}{score}, {about.get('seconds', 0):.0f} s, "
        f"{size / 1000:.1f} kB",
        file=sys.stderr,
    )
    print(out)
