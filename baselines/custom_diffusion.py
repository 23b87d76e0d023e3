"""Custom Diffusion (Kumari et al. 2023): pictures of a concept and of its class in; K, V and one
embedding out.

The concept is `<new1> <super-category>`. Several of them are merged in closed form (Sec. 3.2 of
their paper).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_core.errors import UserError

if TYPE_CHECKING:  # a plan reads this file without torch
    from perfusion_core.backbone import Backbone
    from perfusion_core.subject import Fitted, Subject
    from perfusion_core.training import Progress, Validation, Write

NAME, LABEL, VERSION = "cd", "Custom Diffusion", 1
TRAINED, PRIOR = True, True
TEXT_SIDE = True
SETTINGS = ()
USES_COVARIANCE = False  # no byte of it depends on C
UNET_ONLY = True
TUNED = ("lr",)
FAMILY = "adapter"
SUMMARY = "K and V of every cross-attention and one embedding, beside class images"
FORMAT = "pytorch_custom_diffusion_weights.safetensors and <new1>.safetensors; load_attn_procs"
KILOBYTES = 76_688
FILES = {
    "pytorch_custom_diffusion_weights.safetensors": r".+\.processor(\..+)?",
    "<new1>.safetensors": r"(?!.+\.(weight|bias|alpha)$).+",
}
CITE = """@inproceedings{kumari2023customdiffusion,
  author = {Kumari, Nupur and Zhang, Bingliang and Zhang, Richard and Shechtman, Eli
            and Zhu, Jun-Yan},
  title = {Multi-Concept Customization of Text-to-Image Diffusion},
  booktitle = {CVPR},
  year = {2023},
  note = {arXiv:2212.04488}
}"""
STYLE = {"colour": "#D55E00", "marker": "v", "dash": (0, (3, 1.2)), "ink": "#b04e00"}


@dataclass(frozen=True)
class Config:
    """diffusers' examples/custom_diffusion, by its authors; 200 class images."""

    steps: int = 250  # README: --max_train_steps=250; the paper's CD better-HP is 200
    batch: int = 8  # --train_batch_size=2 on two GPUs, each picture with a class image
    accumulate: int = 1  # micro-batches of batch / accumulate
    lr: float = 8e-5  # --learning_rate=1e-5, times the batch of 8 by --scale_lr
    prior_weight: float = 1.0  # --prior_loss_weight=1.0
    weight_decay: float = 0.01  # --adam_weight_decay
    clip: float = 1.0  # --max_grad_norm
    flip: bool = True  # --hflip; here never an asymmetric concept
    resize: bool = True  # train_custom_diffusion.py: --noaug turns it off
    # Whether the U-Net's activations are computed again: less memory, a third more time.
    checkpointing: bool = False
    # Whether the loss is weighted by masks, as Perfusion's is. A recipe may leave it out.
    masks: bool = field(default=False, metadata={"later": True})

    def __post_init__(self) -> None:
        if self.accumulate > 0 and self.batch % (2 * self.accumulate):
            raise UserError(
                f"batch={self.batch} with accumulate={self.accumulate}: half of each part is class "
                f"images, so give a batch that {2 * self.accumulate} divides"
            )


# results/first-world/tuning-miniature; 64 pixels cannot be made a third
MINIATURE = Config(steps=500, lr=2.5e-4, resize=False)


def fit(
    backbone: Backbone,
    subject: Subject,
    config: Config,
    out: Path,
    *,
    seed: int,
    prior: Any = None,
    validate: Validation | None = None,
    keep: Iterable[int] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, and leave K, V and the embedding in `out` as diffusers lays them out."""
    import torch

    from baselines.custom_diffusion_student import CARRIER, Student, placed
    from baselines.merging import TEXT
    from baselines.parts import (
        CLASS,
        beside_class,
        class_pictures,
        learned_text,
        refuse_projected,
        spoken,
        with_whole,
    )
    from baselines.sized_pictures import SizedPictures
    from perfusion_core.prompts import Word
    from perfusion_core.training import Batch, Recipe, equal_parts, train

    refuse_projected(NAME, backbone)
    # the concept's; class images are the other half
    half = equal_parts(config.batch, 2 * config.accumulate)
    student = Student(backbone)
    words = {subject.name: Word(CARRIER, student.vector)}
    others = class_pictures(backbone, NAME, config, subject, prior)
    own = SizedPictures(backbone, config, subject)
    spoken_as = f"{{{subject.name}}} {subject.super_category}"

    def draw(rng: torch.Generator) -> Batch:
        mine, mask, prefixes, sizes = own.draw(half, rng)
        theirs = others.draw(half, rng)[0]
        return Batch(
            torch.cat([mine.to(theirs), theirs]),
            [prefix + TEXT.format(spoken_as) for prefix in prefixes]
            + [CLASS.format(subject.super_category)] * half,
            beside_class(mask, half),
            prior=half,
            sizes=with_whole(backbone, sizes, half),
        )

    @contextmanager
    def current() -> Iterator[Write]:
        with spoken(backbone, words):
            yield lambda template: template.replace("{}", spoken_as)

    with placed(backbone, student.sides):
        log = train(
            backbone,
            Recipe(
                config.steps,
                config.accumulate,
                config.prior_weight,
                config.weight_decay,
                config.clip,
                config.checkpointing,
            ),
            [{"params": student.parameters(), "lr": config.lr}],
            draw,
            learned_text(backbone, words),
            seed=seed,
            out=out,
            save=student.save,
            current=current,
            validate=validate,
            keep=keep,
            progress=progress,
        )
    return log | {"bytes": sum(path.stat().st_size for path in out.glob("*.safetensors"))}


@contextmanager
def apply(
    backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]
) -> Iterator[Write]:
    """`<new1> <super-category>` for each placeholder; K and V of one concept, or of all merged."""
    from baselines.custom_diffusion_student import applied
    from baselines.parts import refuse_points

    refuse_points(NAME, point)
    with applied(backbone, NAME, fits) as write:
        yield write
