"""Preset, TOML file, flags and `--set` in; one frozen Config out, with its digests.

Every field says what it is: a choice (may grow in an existing run folder), protocol (may not change
there), or place (where and how the work is done; changes no result).
"""

import json
import math
import sys
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from benchmarks.options import DDIM_STEPS, GUIDANCE, SEEDS
from benchmarks.planning.points import OperatingPoint
from perfusion_core.errors import UserError, unknown
from perfusion_core.schedulers import DDIM, SCHEDULERS

# Sec. 5: the ranges of Fig. 6
LOCAL = tuple(str(OperatingPoint("local", bias, 0.15)) for bias in (0.60, 0.65, 0.70, 0.75))
GLOBAL = tuple(str(OperatingPoint("global", bias, 0.15)) for bias in (0.40, 0.45, 0.50, 0.55, 0.60))


def _choice(default: Any) -> Any:
    return field(default=default, metadata={"role": "choice"})


def _place(default: Any) -> Any:
    return field(default=default, metadata={"role": "place"})


@dataclass(frozen=True)
class Config:
    """One benchmark, whole."""

    # The preset that other settings start from; the table of presets below has them.
    preset: str = "paper"
    # The model that draws: a name, a folder in diffusers layout, a single file, or a hub id.
    backbone: str = "miniature"
    revision: str = ""  # Branch, tag or commit of a hub id; without one, its newest.
    # Another VAE for the backbone's own: `fp16-fix` (of Stable Diffusion XL), a folder or a hub id.
    vae: str = ""
    # An imported suite, `dreambench:DIR`; without one, the built-in concepts and prompts.
    suite: str = ""
    # Where masks are from: `auto` (the concepts' own, else CLIPSeg's), `none`, `clipseg`, or a
    # folder of masks.
    masks: str = "auto"
    clipseg: str = _place("CIDAS/clipseg-rd64-refined")  # Who makes masks: a hub id or a folder.
    # Number format: `float32`, `bfloat16`, `float16`, or `auto`, what the hardware has natively.
    dtype: str = "auto"
    # Whether torch.compile makes the U-Net faster. Low bits differ, as with another dtype.
    compile: bool = False
    seed: int = 0  # The seed of everything: training, and the noise of each picture.

    # The methods to compare; `all` is each trained one of ours, and `super` is always planned.
    methods: tuple[str, ...] = _choice(("perfusion", "db", "ti", "cd", "cd-better"))
    # The concepts to train and draw: names, or `all` of the suite's.
    concepts: tuple[str, ...] = _choice(("all",))
    # The prompts to draw: `all`, `shape`, `deform`, ids, or a number of them for each concept.
    prompts: tuple[str, ...] = _choice(("all",))
    # Pairs of concepts to draw in one picture, such as `teddy+teapot`.
    pairs: tuple[str, ...] = _choice(())
    points: dict[str, tuple[str, ...]] = (
        field(  # The operating points of each method. A method not named here has `default`.
            default_factory=lambda: {"perfusion": (*LOCAL, *GLOBAL)}, metadata={"role": "choice"}
        )
    )
    # Whether to draw what a loaded concept does to unrelated prompts, too.
    drift: bool = _choice(True)
    # Where: `all`, or the methods and operating points, such as `ti,perfusion/local-b0.60-t0.15`.
    drift_of: tuple[str, ...] = _choice(("all",))
    # The scorers of the pictures. The first is the reported one; more may be added later.
    scorers: tuple[str, ...] = ("auto",)

    images: int = 8  # The images that are drawn for each prompt.
    steps: int = 50  # The sampling steps of each picture.
    # What takes these steps: the protocol's DDIM, or another scheduler that `perfbench generate`
    # takes, too.
    scheduler: str = DDIM
    guidance: float = 6.0  # The weight of classifier-free guidance.
    # The rows of the U-Net's batch. With guidance an image has two; 0 means the backbone's own.
    rows: int = 0
    # The class images of each super-category, which methods with prior preservation train on.
    prior_images: int = 200
    # The recipe of each method: `published`, `miniature` (tuned there), or `auto`, which is
    # miniature where the backbone carries its own scorer.
    recipe: str = "auto"
    # The most training steps of every method; 0 means each method's own recipe.
    train_steps: int = 0
    # Training steps whose state is kept as well, for points such as `default-s100`.
    keep: tuple[str, ...] = _choice(())
    # Whether every method picks its training step by validation, not only those whose recipe does.
    select_step: bool = False
    validate_every: int = 25  # The training steps between two looks of validation.
    # The sampling steps of validation's pictures; 0 means as many as other pictures have.
    validate_steps: int = 0
    # The scorer that picks training steps. It is never the reported one.
    select_scorer: str = "auto"
    # Changes of a method's own recipe, such as `fit.ti.lr`; the tables of methods have the keys.
    fit: dict[str, dict[str, Any]] = field(default_factory=dict)
    # Trained files to draw with, `perfusion=RUN_OR_FOLDER`: they are not trained again.
    trained: tuple[str, ...] = ()

    # The run folder; without one, `results/<preset>-<backbone>-<digest of the protocol>`.
    out: str = _place("")
    device: str = _place("auto")  # Where models run: `auto`, `cpu`, `cuda` or `cuda:N`.
    # What runs the work: `inline` (this process), `processes` (one worker a GPU), or `ray`.
    engine: str = _place("inline")
    # The workers of `processes` and `ray`; 0 means one a GPU, or half the cores.
    workers: int = _place(0)
    # The threads of each worker; 0 means the cores divided by the workers.
    threads: int = _place(0)
    # The address of a Ray cluster, HOST:PORT; without one, Ray starts on this machine.
    ray_address: str = _place("")
    method_files: tuple[str, ...] = _place(())  # Files of your own methods.
    # Units to take from earlier runs: `usual` (class images, fits, cells of super), `all` or
    # `none`.
    cache: str = _place("usual")
    # Whether images are removed once they are scored. The tables need rows only.
    drop_images: bool = _place(False)
    # Whether trained files are removed once all their pictures are scored. What they cost stays.
    drop_fits: bool = _place(False)
    # Whether all of one concept is done before the next begins, instead of one method after the
    # other.
    by_concept: bool = _place(False)


PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "micro": (
        "for tests (2 concepts, 2 prompts, 2 images, 5 steps, 10 training steps)",
        {
            "methods": ("perfusion",),
            "concepts": ("cat", "teapot"),
            "prompts": ("2",),
            "points": {"perfusion": (LOCAL[0],)},
            "images": 2,
            "steps": 5,
            "prior_images": 4,
            "train_steps": 10,
            "validate_every": 5,
            "drift": False,  # five times the pictures otherwise
        },
    ),
    "quick": (
        "minutes on two cores (3 concepts, 10 prompts, 2 images, 20 steps, whole recipes)",
        {
            "methods": ("perfusion", "cd"),
            "concepts": ("cat", "teapot", "chair"),
            "prompts": ("10",),
            "points": {"perfusion": (LOCAL[0], LOCAL[-1], GLOBAL[0], GLOBAL[-1])},
            "images": 2,
            "steps": 20,
            "prior_images": 32,
            "drift": False,  # twice the pictures of this preset; CI draws them at each change
        },
    ),
    "paper": (
        "the protocol (11 concepts, 86 prompts, 8 images, 50 steps, every published bias)",
        {},
    ),
    "sdxl": (
        "the same questions to Stable Diffusion XL (1024 pixels, its Euler scheduler, guidance 5)",
        {
            "backbone": "sdxl",
            "scheduler": "euler",
            "guidance": 5.0,
            # diffusers' recipes for it: README_sdxl.md of examples/textual_inversion, whose rate is
            # 5e-4 times the batch by --scale_lr, and of examples/dreambooth
            "fit": {
                # as published, a picture at a time with activations recomputed: for 24 GB of memory
                "perfusion": {"batch": 16, "accumulate": 16, "checkpointing": True},
                "ti": {"steps": 500, "batch": 4, "lr": 0.002},
                "lora": {"batch": 4},
            },
        },
    ),
}

CHOICES = {
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "engine": ("inline", "processes", "ray"),
    "recipe": ("auto", "published", "miniature"),
    "scheduler": tuple(SCHEDULERS),
    "cache": ("usual", "all", "none"),
}
RANGES: dict[str, tuple[float, float]] = {
    "images": (1, math.inf),
    "steps": (1, DDIM_STEPS),
    "guidance": (0, GUIDANCE),
    "prior_images": (1, math.inf),
    "validate_every": (1, math.inf),
    "validate_steps": (0, DDIM_STEPS),
    "train_steps": (0, math.inf),
    "workers": (0, 4096),
    "threads": (0, 4096),
    "rows": (0, math.inf),
    "seed": (0, SEEDS),
}
_TYPES = typing.get_type_hints(Config)
# keys of earlier versions, so that a command that is written down still runs
RETIRED = {"batch": "pictures are always drawn in batches, of as many rows as `rows` says"}


def resolve(
    *,
    preset: str = "",
    toml: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
) -> Config:
    """Later ones win: preset, TOML file, flags, `--set key=value`."""
    from_file = _read_toml(toml) if toml else {}
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    name = preset or given.pop("preset", "") or from_file.pop("preset", "") or "paper"
    from_file.pop("preset", None)
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    config = replace(Config(), preset=name, **PRESETS[name][1])
    for key, value in [*_flat(from_file), *given.items(), *map(_split, sets)]:
        config = _with(config, key, value)
    return _checked(config)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no configuration file {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is not a TOML file that can be read: {error}") from None
    if "method_files" in found:
        raise UserError(
            f"{path} names method files; code is run only from files that you name in the command: "
            f"--method-file FILE"
        )
    if "judge:" in str(found.get("scorers", "")):
        raise UserError(
            f"{path} names a judge; pictures and your key are sent only where you say in the "
            f"command: --scorers auto,judge:URL#MODEL"
        )
    return found


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _split(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set {text!r} is not key=value; write for example --set images=4")
    return key.strip(), value.strip()


def _with(config: Config, key: str, value: Any) -> Config:
    """`config` with one key changed; dotted keys reach into points and fit."""
    name, _, rest = key.partition(".")
    if name in RETIRED:
        print(f"perfbench: {key}={value} is passed over: {RETIRED[name]}", file=sys.stderr)
        return config
    if name not in _TYPES or name == "preset":
        raise unknown("key", key, set(_TYPES) - {"preset"})
    if name == "points":
        if not rest or "." in rest:
            raise UserError(
                f"{key} is not points.METHOD; write for example points.perfusion=local-b0.60-t0.15"
            )
        return replace(config, points={**config.points, rest: _coerce(key, value, tuple[str, ...])})
    if name == "fit":
        method, _, option = rest.partition(".")
        if not option or "." in option:
            raise UserError(
                f"{key} is not fit.METHOD.OPTION; write for example fit.perfusion.steps=200"
            )
        return replace(
            config,
            fit={
                **config.fit,
                method: {**config.fit.get(method, {}), option: _literal(value, key)},
            },
        )
    if rest:
        raise UserError(f"{key}: {name} has no parts; write {name}=VALUE")
    return replace(config, **{name: _coerce(key, value, _TYPES[name])})


def _literal(value: Any, key: str) -> Any:
    """Words of the command line as TOML reads them: numbers, true/false, lists; anything else is
    text.
    """
    if isinstance(value, str):
        try:
            value = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            return value
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}={value}: a finite number is wanted")
    if isinstance(value, (date, time, datetime)):  # TOML has them, and no setting is one
        return str(value)
    return tuple(value) if isinstance(value, list) else value


def _coerce(key: str, value: Any, kind: Any) -> Any:
    if isinstance(kind, types.GenericAlias):  # tuple[str, ...]
        parts = (
            value.split(",")
            if isinstance(value, str)
            else value
            if isinstance(value, (list, tuple))
            else [value]
        )
        return tuple(str(part).strip() for part in parts if str(part).strip())
    value = _literal(value, key) if kind is not str else value
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[
            kind
        ]
        raise UserError(
            f"{key}={value!r}: {wanted} is wanted, for example {key}={getattr(Config(), key)!r}"
        )
    return value


def _checked(config: Config) -> Config:
    for key, allowed in CHOICES.items():
        if getattr(config, key) not in allowed:
            raise unknown(key, getattr(config, key), allowed)
    for key, (least, most) in RANGES.items():
        if getattr(config, key) < least:
            raise UserError(f"{key}={getattr(config, key)}: at least {least} is needed")
        if getattr(config, key) > most:
            raise UserError(f"{key}={getattr(config, key)}: at most {most} is allowed")
    for key in ("methods", "concepts", "prompts", "scorers", "drift_of"):
        if not getattr(config, key):
            raise UserError(
                f"{key} is empty; write for example {_typed(key)}{','.join(getattr(Config(), key))}"
            )
    for step in config.keep:
        if not step.isdigit():
            raise UserError(
                f"keep={step!r}: training steps are whole numbers, for example keep=50,100"
            )
    return config


def look_steps(config: Config) -> int:
    """The sampling steps of validation's pictures."""
    return config.validate_steps or config.steps


def _typed(key: str) -> str:
    """In front of a value."""
    return f"--set {key}=" if key == "drift_of" else f"--{key} "


def role(name: str) -> str:
    """choice, protocol or place."""
    return next(f.metadata.get("role", "protocol") for f in fields(Config) if f.name == name)


def protocol(config: Config) -> dict[str, Any]:
    """What may not change in a run folder; of the scorers, the reported one."""
    out = {key: value for key, value in as_dict(config).items() if role(key) == "protocol"}
    usual = as_dict(Config())
    if out["masks"] == "auto":  # what each concept brings; its digest tells the rest
        del out["masks"]
    # said only where they are asked for
    for name in ("trained", "compile", "scheduler", "vae", "validate_steps"):
        if out[name] == usual[name]:
            del out[name]
    return {**out, "scorers": out["scorers"][:1]}


def as_dict(config: Config) -> dict[str, Any]:
    """Plain lists and mappings, as they stand in run.json."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain
