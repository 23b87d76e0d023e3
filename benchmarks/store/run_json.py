"""run.json: what was run, with what, where from; enough to run it again, nothing about whose
machine it was.
"""

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.digests import digest
from benchmarks.paths import git_commit
from benchmarks.planning.backbones import Models, Vae
from benchmarks.planning.config import Config, as_dict, protocol
from benchmarks.planning.units import Method, Plan
from benchmarks.safe_paths import is_name, shown
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.lookup import Scorer
from benchmarks.store.reading import SCHEMA as SCHEMA
from benchmarks.store.reading import well_formed
from benchmarks.suite.catalog import Catalog, Concept
from benchmarks.suite.columns import columns_of, joined_columns, with_grades
from perfusion_core import __version__
from perfusion_core.hardware import has_gpu

LIBRARIES = [
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "open_clip_torch",
    "numpy",
    "pandas",
    "scipy",
    "safetensors",
    "pillow",
    "peft",
    "ray",
]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def anonymous(value: Any) -> Any:
    """The value without the home folder, which names the user."""
    home = str(Path.home())
    if isinstance(value, str) and len(home) > 1:
        return value.replace(home, "~")
    if isinstance(value, Mapping):
        return {key: anonymous(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [anonymous(item) for item in value]
    return value


def libraries() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def device_words(device: str) -> str:
    """What calculates: `cpu (x86_64)`, `cuda (NVIDIA H100)`."""
    if device.startswith("cuda"):
        if not has_gpu():
            return device
        import torch

        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.machine()})"


def scorer_about(scorer: Scorer) -> dict[str, str]:
    source = "" if Path(scorer.source).exists() else scorer.source
    return {"name": scorer.name, "kind": scorer.kind, "source": source, "weights": scorer.weights,
            "preprocessing": scorer.preprocessing, "pixels": scorer.pixels}  # fmt: skip


def vae_about(vae: Vae) -> dict[str, dict[str, str]]:
    revision = {"revision": vae.revision} if vae.revision else {}
    return {"vae": {"id": vae.name, **revision, "sha256": vae.digest}}


def resolved_protocol(config: Config, models: Models, catalog: Catalog) -> dict[str, Any]:
    """What may not change in a run folder, with names replaced by what they mean."""
    fixed = protocol(config) | {
        "backbone": models.name,
        "backbone_digest": models.digest,
        "dtype": models.dtype,
        "rows": models.rows,
        "suite": catalog.name,
        "image_prompts": catalog.protocol.image_prompts,
        "class_word": catalog.protocol.class_word,
        "scorers": [scorer.name for scorer in models.scorers[:1]],
        "select_scorer": models.selector.name,
        "recipe": "miniature" if models.miniature else "published",
        **({"vae": models.vae.digest} if models.vae else {}),
    }
    return dict(anonymous(fixed))


# ---- what was selected ----

# name -> digest each; for people
SELECTED = {"concepts": "concept", "masks": "masks of", "prompts": "prompt"}


def selected(
    catalog: Catalog, concepts: Sequence[Concept], bare: Mapping[str, str], plan: Plan
) -> dict[str, str | dict[str, str]]:
    """Digests of what this plan is about, each concept and prompt for itself, so that another one
    beside them changes none; `bare`: of concepts as they came, before masks were chosen. `texts`:
    what else all fits see."""
    known = {concept.name: concept for concept in (*catalog.concepts, *concepts)}
    used = dict.fromkeys(name for cell in plan.cells for name in cell.concepts)
    mine = {name: known.get(name) or catalog.concept(name) for name in used}
    kinds = {prompt.id: (prompt.kind, prompt.template) for prompt in catalog.prompts}
    kinds |= {pair.id: ("pair", pair.template) for pair in catalog.pairs}
    kinds |= {cell.prompt_id: (cell.kind, cell.template) for cell in plan.drift}
    texts = [
        catalog.templates,
        [[p.id, p.template] for p in catalog.validation],
        asdict(catalog.protocol),
    ]
    return {
        "plan": plan.digest,
        "texts": digest(texts)[:16],
        "concepts": {name: bare.get(name, concept.digest)[:16] for name, concept in mine.items()},
        "masks": {n: c.digest[:16] for n, c in mine.items() if c.digest != bare.get(n, c.digest)},
        "prompts": {
            id: digest(kinds[id])[:16]
            for id in dict.fromkeys(cell.prompt_id for cell in (*plan.cells, *plan.drift))
        },
    }


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What two runs share and is not the same: `concept cat: 0123 -> 4567`."""
    pairs = [("training and validation texts", old["texts"], new["texts"])]
    for part, word in SELECTED.items():
        pairs += [
            (f"{word} {name}", old[part][name], new[part][name])
            for name in old[part].keys() & new[part].keys()
        ]
    return [
        f"{what}: {_told(before)} -> {_told(after)}"
        for what, before, after in sorted(pairs)
        if before != after
    ]


def _told(digest: Any) -> str:
    """A digest as it stands; what somebody else put in its place, as errors print it."""
    return digest if isinstance(digest, str) and is_name(digest) else shown(digest)


def joined(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Of all commands that were given in one folder."""
    return {**new, **{part: {**old.get(part, {}), **new[part]} for part in SELECTED}}


def add_columns(
    about: dict[str, Any],
    catalog: Catalog | None,
    rows: Iterable[CellRow],
    concepts: Iterable[Concept] = (),
) -> None:
    """What the suite's columns and the concepts' grades say of planned concepts and prompts;
    nothing where there are none. `concepts`: those that are not of the suite, too.
    """
    catalog = with_grades(catalog, concepts) if catalog else None
    planned = list(rows) if catalog and catalog.columns else []
    names = {row.concept for row in planned}, {row.prompt_id for row in planned}
    if catalog and (found := columns_of(catalog, *names)):
        about["columns"] = joined_columns(about.get("columns", {}), found)


# ---- run.json ----


def can_go_on(about: Mapping[str, Any]) -> bool:
    """Whether a command can be added to what run.json tells; where not, it is damaged and made
    anew.
    """
    if not (well_formed(about) and {"protocol", "digests"} <= set(about)):
        return False
    commands, seconds, weights = (about.get(key, {}) for key in ("commands", "seconds", "weights"))
    return (
        {"texts", *SELECTED} <= set(about["digests"])
        and all(isinstance(entry, dict) and "config" in entry for entry in commands)
        and all(isinstance(value, (int, float)) for value in seconds.values())
        and all(isinstance(value, dict) for value in weights.values())
        and all(isinstance(unit.get("taken", 0), int) for unit in about.get("units", {}).values())
    )


def about_run(
    old: Mapping[str, Any],
    config: Config,
    models: Models,
    methods: Sequence[Method],
    *,
    argv: Sequence[str],
    protocol: Mapping[str, Any],
    digests: Mapping[str, Any],
    words: Mapping[str, str],
    device: str,
) -> dict[str, Any]:
    """run.json as a command begins; what earlier commands in this folder recorded stays. `words`:
    each concept's super-category.
    """
    commit = git_commit() or ""
    versions = {
        m.name: {
            "of": m.base,
            "version": m.version,
            "config": dict(m.config),
            "select": m.select,
            **({"untuned": True} if m.untuned else {}),
            **({"masks": m.masks} if m.masks is not None else {}),
            **({"label": m.label} if m.label else {}),
            **({"family": m.family} if m.family else {}),
            **({"style": dict(m.style)} if m.style else {}),
            **({"cite": m.cite} if m.cite else {}),
        }
        for m in methods
    }
    command = {
        "argv": anonymous(list(argv)),
        "started": now(),
        "config": anonymous(as_dict(config)),
    }
    earlier = [entry for entry in old.get("commands", []) if entry["config"] != command["config"]]
    return {
        "schema": SCHEMA,
        "version": __version__,
        "commit": commit.removesuffix("-dirty") or None,
        "dirty": commit.endswith("-dirty"),
        "argv": command["argv"],
        "config": command["config"],
        "protocol": dict(protocol),
        "commands": [*earlier, command],
        "digests": dict(digests),
        "super_categories": {**old.get("super_categories", {}), **words},
        "backbone": {
            "id": models.name,
            "revision": models.revision or None,
            "sha256": models.digest,
            "covariance": models.covariance or None,
            "size": models.size,
            **({"world": models.world} if models.world else {}),
            **(vae_about(models.vae) if models.vae else {}),
        },
        "scorers": [scorer_about(scorer) for scorer in models.scorers],
        "select_scorer": scorer_about(models.selector),
        "methods": {**old.get("methods", {}), **versions},
        "libraries": libraries(),
        "device": device_words(device),
        "dtype": models.dtype,
        "units": old.get("units", {}),
        "seconds": old.get("seconds", {}),
        "weights": old.get("weights", {}),
        "failures": [],
        **({"columns": old["columns"]} if "columns" in old else {}),
        "started": old.get("started", now()),
        "finished": None,
    }
