"""What a day on a GPU would download and how long its stages are planned to take.

In: what is asked. Out: numbers, and the text that is printed before anything is done. Arithmetic
on assumed speeds, as in docs/scale-out.md: nothing here was measured. No torch.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from benchmarks.paths import backbone_names
from benchmarks.planning import methods
from benchmarks.planning.config import Config
from benchmarks.planning.kinds import costs_like, short_name
from benchmarks.planning.plan import choose_prompts
from benchmarks.scoring.lookup import SD_SCORER, SD_SELECTOR
from benchmarks.suite.catalog import PHOTOS, load_catalog
from benchmarks.suite.photographs import LIMIT
from perfusion_core.hub import HUB

IMAGE = 2.5  # seconds of a picture of 50 guided steps, 512 pixels, in a full batch
# seconds of a fit; Perfusion's with its 16 looks at 8 pictures
FIT = {"perfusion": 560.0, "db": 480.0, "ti": 3000.0, "cd": 240.0, "cd-better": 240.0}
OTHER_FIT = 600.0
AGAIN = 4 / 3  # forward a second time, beside forward and a backward of twice its operations
# operations of a row through the U-Net beside 1.5's at 512 pixels; a test counts them
WORK = {"sdxl": 8.4}
# GB, as docs/stable-diffusion.md has them
CHECKPOINTS = {"sd15": 4.3, "sd21": 5.2, "sdxl": 13.9}
SMALL = 0.6  # CLIPSeg, and each of the two scorers
USUAL_CAPTIONS = "google-research-datasets/conceptual_captions"


def hours_of(config: Config, concepts: int) -> float:
    """So many concepts by all of its methods, one after the other on one GPU."""
    catalog = load_catalog(PHOTOS)
    prompts = mean(
        len(choose_prompts(config.prompts, catalog.prompts, concept.group))
        for concept in catalog.concepts
    )
    names = methods.expanded(config.methods)
    points = 1 + sum(len(config.points.get(name, ("default",))) for name in names)
    pictures = points * prompts * config.images + config.prior_images
    fits = sum(fit_seconds(config, name) for name in names)
    work = WORK.get(costs_like(config.backbone), 1.0)
    return concepts * work * (pictures * IMAGE * config.steps / 50 + fits) / 3600


def fit_seconds(config: Config, name: str) -> float:
    """By a recipe that is longer or shorter than the published one, in proportion to its rows; a
    third more where activations are computed again.
    """
    changed, share = config.fit.get(name, {}), 1.0
    if {"steps", "batch"} & changed.keys():
        plain = methods.load_method(methods.variant(name).base).Config()
        for key in ("steps", "batch"):
            share *= changed.get(key, getattr(plain, key)) / getattr(plain, key)
    share *= AGAIN if changed.get("checkpointing") else 1.0
    return share * FIT.get(name, OTHER_FIT)


def shown_hours(hours: float) -> str:
    return f"{60 * hours:.0f} min" if hours < 1.5 else f"{hours:.1f} h"


def downloads(config: Config, photos: bool, captions: str) -> list[tuple[str, str]]:
    """(what, how much); nothing that lies in a file or folder that was named."""
    found = []
    backbone = config.backbone
    if backbone not in backbone_names() and not Path(backbone).exists():
        size = CHECKPOINTS.get(short_name(backbone))
        found.append((
            f"the backbone {HUB.get(backbone, backbone)}",
            f"{size} GB" if size else "said when it is fetched",
        ))  # fmt: skip
    if not photos:
        found.append((
            "photographs of ten concepts, from the addresses in concepts/photos",
            f"not known beforehand; at most {LIMIT / 1e9:.0f} GB a file",
        ))  # fmt: skip
    if not Path(config.clipseg).is_dir():
        found.append((f"CLIPSeg for masks, {config.clipseg}", f"{SMALL} GB"))
    if captions == USUAL_CAPTIONS:
        found.append((f"captions for C: 100,000 lines of {captions}", "streamed, not kept whole"))
    own = (backbone_names().get(backbone, Path(backbone)) / "scorer").is_dir()
    wanted = (*config.scorers, config.select_scorer)
    for name, usual in zip(wanted, (SD_SCORER,) * len(config.scorers) + (SD_SELECTOR,)):
        if not (Path(name).is_dir() or (name == "auto" and own)):
            found.append((f"the scorer {usual if name == 'auto' else name}", f"{SMALL} GB"))
    return found


def told(
    root: Path,
    stages: Sequence[tuple[str, str, float]],
    fetched: Sequence[tuple[str, str]],
    concept_hours: float,
    hours: float,
) -> str:
    """What would be done, before anything is; stages: (name, what, planned hours)."""
    wide = max(len(name) for name, _, _ in stages)
    lines = [f"a day of {hours:g} h in {root}; each stage's log is in {root}/logs", ""]
    lines += [f"  {name:<{wide}}  {shown_hours(h):>7}  {what}" for name, what, h in stages]
    before = sum(h for name, _, h in stages)
    left = max(0.0, hours - before)
    lines += [
        f"  {'protocol':<{wide}}  {shown_hours(left):>7}  what is left: the protocol, concept by "
        f"concept, {shown_hours(concept_hours)} each",
        "",
        "These times are planned for one data-centre GPU, from the assumptions of "
        "docs/scale-out.md; none was measured.",
        "",
    ]
    lines += ["to be downloaded, unless it is in your caches:"] if fetched else []
    lines += [f"  {what}: {size}" for what, size in fetched] or ["nothing is downloaded"]
    return "\n".join(lines)
