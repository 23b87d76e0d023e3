"""`perfbench attention`: what the concept's word attends to in pictures where it is known where the
concept is.

In: a run's fits. Out: attention/ (leakage.py). What was measured once, of one method on
one concept, is kept.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.devices import device_name
from benchmarks.digests import digest
from benchmarks.disk import verified
from benchmarks.figures.attention.known_pictures import Known, known_pictures
from benchmarks.figures.attention.leakage import (
    LEVELS,
    Found,
    Part,
    read_part,
    write_attention,
    write_part,
)
from benchmarks.figures.selection import gallery_columns, tell_left_out
from benchmarks.paths import backbone_names
from benchmarks.planning import methods
from benchmarks.planning.plan import seed_of
from benchmarks.planning.points import OperatingPoint
from benchmarks.planning.units import FLOOR
from benchmarks.running.progress import Progress
from benchmarks.store.reading import refuse_without
from benchmarks.store.run_folder import Store, attention_folder, concept_folder, fit_folder
from benchmarks.tables.run_view import Run, open_run
from perfusion_core.attention import look, word_tokens
from perfusion_core.backbone import Backbone
from perfusion_core.errors import UserError
from perfusion_core.latents import vae_moments
from perfusion_core.places import locate_vae
from perfusion_core.sampling import as_float, noise
from perfusion_core.subject import Fitted
from perfusion_core.weight_digests import vae_digest

VERSION = 1
NEEDED = ("config.seed", "config.backbone", "backbone.sha256", "dtype")  # in run.json
AT_ONCE = 4  # pictures a forward pass, each at every level


def attention(
    given: str | None, wanted: Sequence[str] = (), device: str = "auto", files: Sequence[str] = ()
) -> str:
    """Measure what is missing, write the tables; -> the table as text. `files`: methods of the
    user's own.
    """
    run = open_run(given)
    store = Store(run.folder)
    refuse_without(run.folder, run.about, NEEDED)
    parts = parts_of(run, wanted, files)
    todo = [part for part in parts if read_part(store, part) is None]
    if todo:
        measure(run, store, todo, device, files)
    found = {part: one for part in parts if (one := read_part(store, part)) is not None}
    if len(found) < len(parts):
        raise UserError(
            f"{attention_folder(run.folder)} was changed meanwhile; give the same command again"
        )
    return write_attention(run, store, found)


# ---- what there is to do ----


def parts_of(run: Run, wanted: Sequence[str], files: Sequence[str] = ()) -> list[Part]:
    """Every wanted column on the concepts that all of them have a fit of."""
    plan = run.plan[run.plan["kind"] != "pair"]
    columns = gallery_columns(run, wanted)
    tell_left_out(run, columns, wanted)
    floor = [(FLOOR, "default")] if not wanted else []
    columns = list(dict.fromkeys([*columns, *floor]))
    concepts = list(dict.fromkeys(plan["concept"]))
    rows: dict[tuple[str, str, str], Mapping[Any, Any]] = {
        (row["method"], row["point"], row["concept"]): row for row in plan.to_dict("records")
    }
    bases = {method: known_base(run, method, files) for method, _ in columns}
    fitted = [
        concept
        for concept in concepts
        if all(
            has_fit(run.folder, bases[method], rows.get((method, point, concept)))
            for method, point in columns
        )
    ]
    left_out = [concept for concept in concepts if concept not in fitted]
    if not fitted:
        named = ", ".join(f"{method}/{point}" for method, point in columns)
        raise UserError(
            f"{run.name}: no concept has a fit of each of {named}; the same `perfbench run` makes "
            f"them"
        )
    if left_out:
        print(
            f"perfbench: without {', '.join(left_out)}, of which a method has no fit here",
            file=sys.stderr,
        )
    known = {concept: pictures_of(run, plan, concept) for concept in fitted}
    return [
        part_of(run, bases[method], known[concept], rows[method, point, concept])
        for method, point in columns
        for concept in fitted
    ]


def known_base(run: Run, method: str, files: Sequence[str]) -> str:
    """The method whose module does it. Code that only run.json names is never loaded: a run may be
    anybody's.
    """
    base = methods.variant(method, files).base
    if base not in methods.sources(files):
        told = run.about.get("config", {}).get("method_files", ())
        recorded = ", ".join(map(str, told))[:200] if isinstance(told, list) and told else "FILE.py"
        raise UserError(
            f"{run.name}: the method {base} is in a file of its own (the run was made with "
            f"{recorded}), and code is run only from files that you name; look at it, then add "
            f"--method-file FILE, or leave it out"
        )
    return base


def has_fit(run: Path, base: str, row: Mapping[Any, Any] | None) -> bool:
    if row is None:
        return False
    key = row["fit"]
    return (
        not key or verified(fit_folder(run, base, row["concept"], key), "fit.json", key) is not None
    )


def pictures_of(run: Run, plan: pd.DataFrame, concept: str) -> tuple[Known, ...]:
    mine = plan[plan["concept"] == concept].drop_duplicates("prompt_id")
    templates = dict(zip(mine["prompt_id"], mine["template"]))
    folder = concept_folder(run.folder, concept)
    return tuple(known_pictures(folder, concept, str(mine["super_category"].iloc[0]), templates))


def part_of(run: Run, base: str, known: tuple[Known, ...], row: Mapping[Any, Any]) -> Part:
    """With the digest of all that decides its numbers."""
    pixels = hashlib.sha256()
    for one in known:
        pixels.update(one.picture.tobytes() + one.mask.tobytes())
    about = run.about
    key = digest(
        {
            "unit": "attention",
            "version": VERSION,
            "levels": LEVELS,
            "backbone": about["backbone"]["sha256"],
            "dtype": about["dtype"],
            "method": base,
            "point": row["point"],
            "fit": row["fit"],
            "covariance": about["backbone"].get("covariance"),
            "super": row["super_category"],
            "texts": [one.template for one in known],
            "seeds": seeds_of(run, row["concept"], known),
            "pictures": pixels.hexdigest(),
            **({"vae": vae["sha256"]} if (vae := about["backbone"].get("vae")) else {}),
        }
    )
    names = (row["method"], row["point"], base, row["concept"], row["super_category"], row["fit"])
    return Part(*names, known=known, key=key)


def seeds_of(run: Run, concept: str, known: Sequence[Known]) -> list[int]:
    """The noise of a cell's first image: the same for every method and level."""
    return [seed_of(int(run.about["config"]["seed"]), concept, one.name, 0) for one in known]


# ---- doing it ----


def measure(
    run: Run, store: Store, todo: Sequence[Part], device: str, files: Sequence[str] = ()
) -> None:
    """Each part is published when it is done, so that an interrupted command goes on."""
    backbone = open_backbone(run, device)
    progress = Progress(sum(len(part.known) for part in todo))
    latents: dict[str, torch.Tensor] = {}
    try:
        for part in todo:
            progress.current(f"{part.column} on {part.concept}")
            if part.concept not in latents:
                pictures = as_float(np.stack([one.picture for one in part.known]))
                latents[part.concept] = vae_moments(backbone, pictures)[0]
            with applied(backbone, run.folder, part, files) as spell:
                start = noise(backbone, seeds_of(run, part.concept, part.known))
                found = measured(backbone, part, spell, latents[part.concept], start, progress.add)
            write_part(store, part, found)
    finally:
        progress.close()


def open_backbone(run: Run, device: str) -> Backbone:
    """The run's, and no other."""
    about = run.about
    where = about["config"]["backbone"]
    where = str(Path(where).expanduser()) if where.startswith("~") else where
    revision, vae = about["config"].get("revision") or None, about["config"].get("vae") or ""
    recorded = about["backbone"].get("vae") or {}
    place = locate_vae(vae, recorded.get("revision") or None)[1] if vae else None
    if place and vae_digest(place) != recorded["sha256"]:
        raise another_now(f"the VAE {vae}", run)
    backbone = Backbone.open(
        where,
        device=device_name(device),
        dtype=about["dtype"],
        revision=revision,
        names=backbone_names(),
        vae=place,
    )
    if backbone.digest != about["backbone"]["sha256"]:
        raise another_now(f"the backbone {where}", run)
    return backbone


def another_now(what: str, run: Run) -> UserError:
    return UserError(
        f"{what} is another one now than {run.name} was made with; put the old one back, or give "
        f"the `perfbench run` command again with another --out"
    )


@contextmanager
def applied(
    backbone: Backbone, run: Path, part: Part, files: Sequence[str]
) -> Iterator[Callable[[str], str]]:
    """A part's fit in the backbone, at its point."""
    point = OperatingPoint.parse(part.point)
    folder = fit_folder(run, part.base, part.concept, part.fit) if part.fit else run
    fitted = Fitted(folder / f"step-{point.step}" if point.step else folder, part.super_category)
    with methods.load_method(part.base, files).apply(
        backbone, {part.concept: fitted}, point.settings
    ) as spell:
        yield spell


def measured(
    backbone: Backbone,
    part: Part,
    spell: Callable[[str], str],
    latents: torch.Tensor,
    start: torch.Tensor,
    tell: Callable[[int], None],
) -> Found:
    """Every picture at every level, a few pictures a forward pass."""
    leakage, maps = [], []
    masks = (
        torch.from_numpy(np.stack([one.mask for one in part.known])).unsqueeze(1).float() / 255
    )  # [n, 1, H, W]
    for begin in range(0, len(part.known), AT_ONCE):
        rows = [n for n in range(begin, min(begin + AT_ONCE, len(part.known))) for _ in LEVELS]
        few = [part.known[n] for n in rows]
        texts = [spell(one.template) for one in few]
        words = [
            word_tokens(backbone.tokenizer, one.template, part.concept, text, part.super_category)
            for one, text in zip(few, texts)
        ]
        levels = LEVELS * (len(rows) // len(LEVELS))
        seen = look(backbone, texts, words, latents[rows], start[rows], levels, masks[rows])
        leakage.append(seen.leakage.unflatten(0, (-1, len(LEVELS))))
        maps.append(seen.maps.unflatten(0, (-1, len(LEVELS))).mean(1))
        tell(len(rows) // len(LEVELS))
    return Found(torch.cat(leakage).numpy(), torch.cat(maps).numpy())
