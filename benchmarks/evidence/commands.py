"""The commands that make results/miniature-*, in their order. `python -m benchmarks.evidence
commands` prints them.

Each may be interrupted and given again (`concepts add` then says that it was done).
"""

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.planning.ablations import ABLATIONS
from benchmarks.planning.points import OperatingPoint


def _points(lock: str, *biases: float, temperature: float = 0.15) -> str:
    return ",".join(str(OperatingPoint(lock, bias, temperature)) for bias in biases)


OUT = "results/miniature-"
BIASES = (0.60, 0.65, 0.70, 0.75)
LOCAL = _points("local", *BIASES)
COLD = _points("local", *BIASES, temperature=0.10)
WIDE = _points("local", 0.30, 0.45, 0.60, 0.75, 0.90, 1.05)
GLOBAL = _points("global", 0.40, 0.50, 0.60)
EACH = (
    "perfusion",
    "ti,ti-selected",
    "cd,cd-better,cd-selected",
    "db,db-selected",
    "lora,lora-selected",
)
PAIRS = ("teddy+teapot", "cat+chair", "cat+pot", "teddy+sunglasses",  # the paper's
         "dog+sunglasses", "puppy+chair", "tortoise+pot", "cat_toy+teapot")  # fmt: skip
UNUSUAL = (("pot", "clock"), ("pot", "shoe"), ("cat", "lamp"),  # the paper's
           ("dog", "car"), ("teapot", "ball"), ("chair", "mug"))  # fmt: skip
ODD_ONES = "results/unusual"  # where these are put
ODD_NAMES = [f"{name}_as_{word}" for name, word in UNUSUAL]
ODD_CONCEPTS = ",".join(f"{ODD_ONES}/{name}" for name in ODD_NAMES)
# Trained otherwise, and drawn at Perfusion's points; the gate of vanilla ROME has neither bias nor
# temperature
ELSEWHERE_DRAWN = ("vanilla-rome", "own-pooled")  # at a point of its own; with two text encoders
VARIANTS = tuple(one.name for one in ABLATIONS if one.config and one.name not in ELSEWHERE_DRAWN)
TAKEN = f"{OUT}concepts"  # the trained files of Perfusion that are committed: what CI draws with
ELEVEN = "results/eleven"  # the run that trains them
OTHERWISE = "results/otherwise"  # Perfusion's pictures on two text encoders, drawn otherwise
# for two cores; of several workers one thread each wastes least
TWO = "--engine processes --workers 2"
RUN = f"perfbench run {TWO} --threads 1 --set compile=true"
FEW = f"{RUN} --set batch=16"  # as it was typed; every run draws several prompts together now
QUICK = "perfbench run --preset quick"
# What another machine does to the same noise and weights: it adds up in another type, by other
# kernels. The first committed repeat had those of AVX2 (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA),
# the last those of a processor with AVX-512's bfloat16 and no tiles.
ELSEWHERE = (f"{TWO} --dtype float32", f"{TWO} --dtype float32", TWO)
KEPT = (25, 50, 100, 150, 200, 250, 300, 400)
EARLY = (50, 100, 200)  # at the paper's rates, which are four times those that were tuned
# Who picks a step by validation picks it from as many as were tried, as Perfusion does
TI_LONGEST = "--set fit.ti-selected.steps=600"
LONGEST = f"{TI_LONGEST} --set fit.lora-selected.steps=300"


def _at(steps: Sequence[int], points: str) -> str:
    """Every step of one fit of Perfusion a point, to the last of them, whatever number of steps was
    tuned.
    """
    each = ",".join(
        str(replace(OperatingPoint.parse(point), step=step))
        for step in steps
        for point in points.split(",")
    )
    return (
        f"--set fit.perfusion.steps={steps[-1]} --set keep={','.join(map(str, steps))} --set "
        f"points.perfusion={each}"
    )


def _dynamics() -> str:
    return (
        f"{FEW} --out {OUT}dynamics --methods perfusion,perfusion-trained-k "
        f"{_at(KEPT, 'local-b0.60-t0.15')} "
        "--set images=1"
    )


def _rates() -> str:
    """Perfusion as published, each step and bias a point of its front; the others as they are in
    the paper's run.
    """
    others = [f"{name}-selected" for name in ("cd", "db", "ti", "lora")]
    return (
        f"{FEW} --out {OUT}rates --methods perfusion,{','.join(others)} --set images=1 "
        f"--set fit.perfusion.lr=0.03 --set fit.perfusion.lr_embedding=0.006 "
        f"{_at(EARLY, _points('local', 0.60, 0.75))} "
        f"--trained {','.join(f'{name}={OUT}paper' for name in others)}"
    )


def _outline() -> str:
    """Whose outline an unusual concept has, as training goes on, and with the stricter lock."""
    return (
        f"{FEW} --out {OUT}outline --methods perfusion --prompts shape --set images=2 "
        f"{_at(KEPT, 'local-b0.60-t0.15,global-b0.50-t0.15')} --concepts {ODD_CONCEPTS}"
    )


def _mask() -> str:
    """One training image, with and without a mask: does a mask keep a background out that all
    images share?
    """
    one = _points("local", 0.60)
    return (
        f"{FEW} --out {OUT}mask --methods perfusion --ablation one-shot,no-mask --set images=2 "
        f"--trained perfusion={TAKEN} --set fit.perfusion-no-mask.images=1 "
        f"--set points.perfusion={one} --set points.perfusion-one-shot={one} --set "
        f"points.perfusion-no-mask={one}"
    )


def _figures(name: str, *figures: str) -> list[str]:
    return [f"perfbench plot {figure} {OUT}{name}" for figure in figures]


def _repeated(run: str, name: str, repeats: Sequence[str] = ELSEWHERE) -> list[str]:
    """A reference of the regression gate, its repeats, and the margins that these tell."""
    places = [f"results/{name}-repeat-{number}" for number in range(1, len(repeats) + 1)]
    return [
        f"{run} {TWO} --out {OUT}{name}",
        *(f"{run} {change} --out {place}" for change, place in zip(repeats, places)),
        f"perfbench check --calibrate {OUT}{name} {' '.join(places)} --against {OUT}{name}",
    ]


COMMANDS = {
    "concepts": [
        f"{QUICK} {TWO} --methods perfusion --concepts all --prompts s01 --set images=1 --set "
        f"points.perfusion={_points('local', 0.60)} --no-cache --out {ELEVEN}",
        f"python -m benchmarks.evidence take {ELEVEN} {TAKEN}",
    ],
    "paper": [
        f"{RUN} --out {OUT}paper --scorers auto,truth --methods {methods} "
        f"--set points.perfusion={LOCAL},{GLOBAL} {LONGEST}"
        for methods in EACH
    ]
    + [
        f"perfbench attention {OUT}paper --methods ti,cd,db,perfusion/local-b0.60-t0.15,super",
        f"python -m benchmarks.evidence look {OUT}paper",
        *_figures("paper", "pareto", "bias", "per-concept", "breakdown", "attention", "gallery"),
    ],
    "bias": [
        f"{FEW} --out {OUT}bias --methods perfusion --set images=1 --trained perfusion={OUT}paper "
        f"--set points.perfusion={WIDE}",
        *_figures("bias", "bias"),
    ],
    "rates": [_rates(), *_figures("rates", "dynamics")],
    "ablations": [
        f"{FEW} --out {OUT}ablations --methods perfusion --set images=2 --trained "
        f"perfusion={TAKEN} "
        f"--ablation lock,{','.join(VARIANTS)},infer-temperature,vanilla-rome "
        f"--set points.perfusion={LOCAL},{GLOBAL} "
        + "".join(f"--set points.perfusion-{name}={LOCAL} " for name in VARIANTS)
        + f"--set points.perfusion-infer-temperature={COLD} "
        "--set points.perfusion-vanilla-rome=local-b0.60-t0.15",
        *_figures("ablations", "ablation"),
    ],
    "mask": [_mask()],
    "dynamics": [_dynamics(), *_figures("dynamics", "dynamics")],
    "pairs": [
        f"{RUN} --out {OUT}pairs --methods perfusion,cd,ti --concepts teddy --prompts s01 "
        f"--pairs {','.join(PAIRS)} --set points.perfusion=local-b0.55-t0.15,{LOCAL} "
        f"--trained perfusion={OUT}paper,cd={OUT}paper,ti={OUT}paper"
    ],
    "unusual": [
        f"perfbench concepts add concepts/{name} --super-category {word} --name {odd} --dest "
        f"{ODD_ONES}"
        for (name, word), odd in zip(UNUSUAL, ODD_NAMES)
    ]
    + [
        f"{FEW} --out {OUT}unusual --methods perfusion --prompts shape --set images=4 "
        f"--set points.perfusion={LOCAL} --concepts {ODD_CONCEPTS}",
        f"python -m benchmarks.evidence look {OUT}unusual",
    ],
    "outline": [
        _outline(),
        f"python -m benchmarks.evidence look {OUT}outline",
        *_figures("outline", "dynamics"),
        f"perfbench plot gallery {OUT}outline --concepts {','.join(ODD_NAMES)} "
        "--methods super,perfusion/global-b0.50-t0.15-s250,perfusion/local-b0.60-t0.15-s250 "
        "--images 2",
    ],
    "measures": [
        f"{QUICK} --threads 1 --methods perfusion,cd,db,ti,lora,super --concepts all --drift "
        "--set images=4 --set "
        f"points.perfusion={_points('local', 0.30, 0.60, 0.75, 1.05)},{_points('global', 0.40)} "
        f"--scorers auto,truth --no-cache {TWO} --out {OUT}measures",
        *_figures("measures", "measures", "cost", "difficulty"),
    ],
    # two text encoders
    "xl": [
        f"{QUICK} {TWO} --threads 1 --backbone miniature-xl --methods perfusion,cd,db,ti,lora,"
        "cd-selected,db-selected,lora-selected --ablation own-pooled --concepts all --scorers "
        f"auto,truth --no-cache --set "
        f"points.perfusion={_points('local', 0.60, 0.75)},{_points('global', 0.40)} "
        f"--set points.perfusion-own-pooled={_points('local', 0.60)} --out {OUT}xl",
        *_figures("xl", "pareto"),  # before more methods crowd it
        f"python -m benchmarks.evidence.joint_trial {OUT}xl {OTHERWISE} "
        f"--points {_points('local', 0.60)},{_points('global', 0.40)}",
        f"perfbench import {OTHERWISE}/pictures.csv --out {OUT}xl",
        # 1: goals not met
        f"perfbench miniature verify --weights miniature-xl --out {OUT}xl/verify",
    ],
    "transfer": [
        "perfbench miniature restyle watercolor --out watercolor-miniature",
        f"{FEW} --out {OUT}transfer --backbone watercolor-miniature --methods perfusion --set "
        f"images=2 "
        f"--set points.perfusion={LOCAL} --trained perfusion={TAKEN}",
        f"python -m benchmarks.evidence look {OUT}transfer",
        *_figures("transfer", "gallery"),
    ],
    "contrastive": [
        "perfbench miniature contrastive --out contrastive-miniature",
        f"{FEW} --out {OUT}contrastive --backbone contrastive-miniature --methods "
        f"perfusion,cd-selected,db-selected,ti-selected --set images=2 --set "
        f"points.perfusion={LOCAL},{GLOBAL} "
        f"{TI_LONGEST}",
        f"perfbench plot gallery {OUT}contrastive --concepts cat,teapot,chair,pot --prompts "
        f"s01,s04 --methods "
        "super,perfusion/local-b0.60-t0.15,cd-selected,db-selected,ti-selected --images 2",
        # 1: goals not met
        f"perfbench miniature verify --weights contrastive-miniature --out {OUT}contrastive/verify",
    ],
    "quick": _repeated(
        f"{QUICK} --methods perfusion --concepts all --trained perfusion={TAKEN}", "quick"
    ),
    "quickstart": _repeated(
        f"{QUICK} --methods perfusion,cd --concepts cat,teapot,chair", "quickstart", ELSEWHERE[:1]
    ),
}
for _name in COMMANDS:
    if f"{OUT}{_name}" != TAKEN:  # files, and no run
        COMMANDS[_name].append(f"python -m benchmarks.evidence pack {OUT}{_name}")
