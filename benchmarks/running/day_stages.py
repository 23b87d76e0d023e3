"""The stages of a day on a GPU: which commands each is, and what it needs to have ended well.

In: what is asked. Out: stages in their order. Each is a command that users type as well, so that
any of them can be given again by hand.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.devices import device_name, device_type
from benchmarks.disk import read_json
from benchmarks.planning.config import PRESETS, Config, resolve
from benchmarks.planning.kinds import costs_like, kind_here
from benchmarks.running.day_cost import USUAL_CAPTIONS, hours_of
from benchmarks.running.day_folder import Command, words_of
from benchmarks.running.refusals import refuse_unfit
from benchmarks.suite.catalog import PHOTOS
from benchmarks.suite.photographs import read_photos, shipped
from perfusion_core.errors import UserError

FEW = 3  # concepts of the quick run
FIRST = ("teapot", "cat", "chair")  # of three groups, where they are there
QUICK, PAPER = "quick", "paper"  # folders of the two runs
UNCOUNTED = "drift=false"  # hours are counted for the protocol's pictures; --set may ask for it
OURS = ("backbone", "suite", "concepts", "methods", "device", "dtype", "out")  # our own flags
FIXED_HOURS = {"facts": 0.2, "photographs": 0.1, "masks": 0.05, "covariance": 0.2, "speed": 0.5,
               "tests": 0.2, "tables": 0.05}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """The words of the command."""

    root: Path
    backbone: str
    hours: float
    methods: tuple[str, ...] = ()  # of the protocol; empty: all that it has
    photos: str = ""  # a folder with a folder of photographs for each concept
    captions: str = USUAL_CAPTIONS
    device: str = "auto"
    dtype: str = "auto"
    sets: tuple[str, ...] = ()

    @property
    def fixed(self) -> dict[str, object]:
        """What may not change when the day is gone on with; the hours may."""
        return {
            "backbone": self.backbone,
            "methods": list(self.methods),
            "device": self.device,
            "dtype": self.dtype,
            "set": list(self.sets),
        }

    def config(self, preset: str) -> Config:
        flags: dict[str, Any] = {"backbone": self.backbone, "device": self.device}
        flags |= {"dtype": self.dtype}
        flags |= {"methods": self.methods} if preset == PAPER and self.methods else {}
        named = self.whole if preset == PAPER else preset
        return resolve(preset=named, flags=flags, sets=(UNCOUNTED, *self.sets))

    @property
    def whole(self) -> str:
        """The preset of the whole protocol: the backbone's own, where it has one."""
        like = costs_like(self.backbone)
        own = [name for name, (_, keys) in PRESETS.items() if like and keys.get("backbone") == like]
        return own[0] if own else PAPER


@dataclass(frozen=True)
class Stage:
    """commands: what is left to be done, or in words why it is left out; enough: whether what is
    there suffices although a command failed."""

    name: str
    what: str
    commands: Callable[[Asked], list[Command] | str]
    needs: tuple[str, ...] = ()
    enough: Callable[[Asked], bool] = field(default=lambda asked: False)
    hours: float = 0.0


def check_sets(sets: tuple[str, ...]) -> None:
    """A setting that has a flag of its own here, or is the day's own."""
    for one in sets:
        key = one.partition("=")[0].strip()
        if key in OURS:
            raise UserError(
                f"--set {one}: a day chooses {key} itself or by a flag; `perfbench gpu-day --help` "
                f"lists them"
            )


def check_kind(asked: Asked) -> None:
    """What a run of the day would refuse because of the backbone's kind; of a hub id of which
    nothing is here, the first stage that needs it says so."""
    kind = kind_here(asked.backbone)
    if kind is None:
        return
    if kind.captioned:  # the quick run has its own methods, whatever --methods names
        raise UserError(
            f"a day compares methods that train a U-Net, and the backbone {kind.name} is of "
            f"PixArt's or Sana's kind; use `perfbench run --methods perfusion` there"
        )
    for preset in (QUICK, PAPER):
        refuse_unfit(kind, asked.config(preset))


# ---- which concepts ----


def given_folders(asked: Asked) -> dict[str, Path]:
    """The folders of --photos that have a concept's name."""
    if not asked.photos:
        return {}
    root = Path(asked.photos).expanduser()
    found = {name: root / name for name in shipped() if (root / name).is_dir()}
    if not found:
        raise UserError(
            f"--photos {asked.photos} has no folder with the name of a concept in it: "
            f"{', '.join(shipped())}"
        )
    return found


def present(asked: Asked) -> list[str]:
    """Concepts of the day whose photographs are here; those of the quick run first."""
    wanted = given_folders(asked) or shipped()
    here = [one.name for one in read_photos() if one.images and one.name in wanted]
    return sorted(here, key=lambda name: (name not in FIRST, here.index(name)))


def photographs(asked: Asked) -> list[Command]:
    folders, here = given_folders(asked), present(asked)
    adopt = [
        perfbench("concepts", "adopt", name, str(folder))
        for name, folder in folders.items()
        if name not in here
    ]
    missing = [name for name in shipped() if name not in here]
    if folders or not missing:
        return adopt
    return [perfbench("concepts", "fetch", ",".join(missing))]


def masks(asked: Asked) -> list[Command]:
    bare = [one.name for one in read_photos() if one.name in present(asked) and not one.masks]
    model = asked.config(QUICK).clipseg
    flags = words_of({"suite": PHOTOS, "model": model, "device": asked.device}, ())
    return [perfbench("masks", ",".join(bare), *flags)] if bare else []


# ---- models ----


def facts(asked: Asked) -> list[Command]:
    words = ("benchmarks.running.day_facts", asked.backbone, asked.device)
    return [Command(words, to="facts.json")]


def covariance(asked: Asked) -> list[Command]:
    known = (read_json(asked.root / "facts.json") or {}).get("backbone") or {}
    if known.get("covariance"):  # there before: it belongs to its user
        return []
    values = {"backbone": asked.backbone, "device": asked.device}
    values |= {"captions": asked.captions} if asked.captions != USUAL_CAPTIONS else {}
    return [perfbench("covariance", *words_of(values, ()))]


def speed(asked: Asked) -> list[Command]:
    values = {"backbone": asked.backbone, "device": asked.device, "dtype": asked.dtype}
    words = ("benchmarks.speed", "--recipes", "--repeats", "3", *words_of(values, ()))
    return [Command(words, to="speed.md")]


def gpu_tests(asked: Asked) -> list[Command] | str:
    folder = Path(__file__).resolve().parents[2] / "tests"
    if device_type(device_name(asked.device)) != "cuda":
        return "no CUDA device is used"
    if not (folder / "conftest.py").is_file():
        return "the tests are not here: they are in a clone of the repository"
    if importlib.util.find_spec("pytest") is None:
        return "pytest is not installed: pip install -e '.[dev]'"
    return [Command(("pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", str(folder)))]


# ---- runs ----


def a_run(asked: Asked, preset: str, concepts: list[str]) -> Command:
    values = {
        "preset": asked.whole if preset == PAPER else preset,
        "backbone": asked.backbone,
        "suite": PHOTOS,
        "methods": ",".join(asked.methods) if preset == PAPER else "",
        "concepts": ",".join(concepts),
        "device": asked.device,
        "dtype": asked.dtype,
        "out": str(asked.root / preset),
    }
    return perfbench("run", *words_of(values, (UNCOUNTED, *asked.sets)))


def quick(asked: Asked) -> list[Command]:
    return [a_run(asked, QUICK, present(asked)[:FEW])]


def protocol_stage(asked: Asked, concept: str) -> Stage:
    """One concept of the protocol; the run folder grows by it."""
    return Stage(
        f"{PAPER}-{concept}",
        f"the protocol on {concept}",
        lambda asked: [a_run(asked, PAPER, [concept])],
        ("photographs", "masks", "covariance"),
    )


def tables(asked: Asked) -> list[Command] | str:
    runs = [str(asked.root / name) for name in (QUICK, PAPER) if is_run(asked.root / name)]
    return [
        perfbench(*words)
        for run in runs
        for words in (
            ("table", run, "--allow-missing"),
            ("plot", "pareto", run),
            ("report", run),
        )
    ] or "there is no run"


def is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file() and (folder / "plan.csv").is_file()


def perfbench(*words: str) -> Command:
    return Command(("benchmarks.cli", *words))


def before_the_protocol(asked: Asked) -> list[Stage]:
    """In their order. What is short and tells most comes first; the protocol takes what is left."""
    models = ("photographs", "masks", "covariance")
    stages = [
        Stage("facts", "versions and device; the backbone is fetched", facts),
        Stage(
            "photographs",
            "the concepts' photographs, fetched or adopted",
            photographs,
            enough=lambda asked: len(present(asked)) >= FEW,
        ),
        Stage("masks", "CLIPSeg's masks of them", masks, ("photographs",)),
        Stage("covariance", "C of the text encoder", covariance, ("facts",)),
        Stage(
            QUICK,
            f"Perfusion and Custom Diffusion on {FEW} concepts, by their whole recipes",
            quick,
            models,
            hours=hours_of(asked.config(QUICK), FEW),
        ),
        Stage("speed", "speed and memory, side by side", speed, ("covariance",)),
        Stage("tests", "the tests that need a GPU", gpu_tests),
    ]
    return stages


TABLES = Stage("tables", "tables, figures and reports of both runs", tables)


def planned_hours(stage: Stage) -> float:
    return stage.hours or FIXED_HOURS.get(stage.name, 0.0)
