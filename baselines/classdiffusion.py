"""ClassDiffusion (Huang et al. 2025): pictures of a concept in; K, V and one embedding out.

The concept is `<new1> <super-category>`, trained as Custom Diffusion but without class images. In
their place stands a term of the loss: one minus the cosine between what the text encoder says of
`a photo of a <new1> <super-category>` and of `a photo of a <super-category>`.

Loss and schedule are those of train_class_diffusion.py and train_single.sh. Other than there, the
encodings are compared at the end token: on Stable Diffusion 1.5 their code takes the position of
the largest id, which is that of the added `<new1>`. Left out: their joint training of several
concepts; here several are merged in closed form, as Custom Diffusion's are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_core.errors import UserError

if TYPE_CHECKING:  # a plan reads this file without torch
    import torch

    from perfusion_core.backbone import Backbone
    from perfusion_core.prompts import Word
    from perfusion_core.subject import Fitted, Subject
    from perfusion_core.training import Progress, Validation, Write

NAME, LABEL, VERSION = "classdiffusion", "ClassDiffusion", 1
TRAINED, PRIOR = True, False
TEXT_SIDE = True
SETTINGS = ()
USES_COVARIANCE = False  # no byte of it depends on C
UNET_ONLY = True
ONE_ENCODER = True
TUNED = ("lr",)
UNTUNED = True
FAMILY = "adapter"
SUMMARY = "K and V of the cross-attentions, and a word kept near its super-category"
FORMAT = (
    "pytorch_custom_diffusion_weights.safetensors, load_attn_procs; <new1>.safetensors, "
    "load_textual_inversion"
)
KILOBYTES = 76_688
FILES = {
    "pytorch_custom_diffusion_weights.safetensors": r".+\.processor(\..+)?",
    "<new1>.safetensors": r"(?!.+\.(weight|bias|alpha)$).+",
}
STYLE = {"colour": "#6F4E37", "marker": "^", "dash": (0, (3, 1, 1, 1))}
CITE = """@inproceedings{huang2025classdiffusion,
  title = {{ClassDiffusion}: More Aligned Personalization Tuning with Explicit Class Guidance},
  author = {Huang, Jiannan and Liew, Jun Hao and Yan, Hanshu and Yin, Yuyang and Zhao, Yao and
            Shi, Humphrey and Wei, Yunchao},
  booktitle = {International Conference on Learning Representations},
  year = {2025},
  note = {arXiv:2405.17532}
}"""


@dataclass(frozen=True)
class Config:
    """Rbrq03/ClassDiffusion, scripts/train_single.sh, on two GPUs as in the paper."""

    steps: int = 500  # --max_train_steps=500
    batch: int = 4  # --train_batch_size=2 on two GPUs
    accumulate: int = 1  # micro-batches of batch / accumulate
    lr: float = 4e-5  # --learning_rate=1e-5, times the batch of 4 by --scale_lr
    class_weight: float = 1.0  # --spl_weight=1, of the semantic preservation loss
    weight_decay: float = 0.01  # --adam_weight_decay
    clip: float = 1.0  # --max_grad_norm
    flip: bool = True  # --hflip; here never an asymmetric concept
    resize: bool = True  # Custom Diffusion's sizes, which train_single.sh leaves on
    # Whether the U-Net's activations are computed again: less memory, a third more time.
    checkpointing: bool = False
    # Whether the loss is weighted by masks, as Perfusion's is. A recipe may leave it out.
    masks: bool = field(default=False, metadata={"later": True})

    def __post_init__(self) -> None:
        if self.class_weight < 0:
            raise UserError(f"class_weight={self.class_weight}: at least 0 is needed")


# 64 pixels cannot be made a third
MINIATURE = Config(lr=2.5e-4, resize=False)


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
    from baselines.custom_diffusion_student import CARRIER, Student, placed
    from baselines.parts import CLASS, learned_text, refuse_two_encoders, spoken
    from baselines.sized_pictures import SizedPictures
    from perfusion_core.prompts import Word
    from perfusion_core.training import Batch, Recipe, equal_parts, train

    refuse_two_encoders(NAME, backbone)
    count = equal_parts(config.batch, config.accumulate)
    student = Student(backbone)
    words = {subject.name: Word(CARRIER, student.vector)}
    own = SizedPictures(backbone, config, subject)
    spoken_as = f"{{{subject.name}}} {subject.super_category}"
    text = CLASS.format(spoken_as)
    far = distance(backbone, text, CLASS.format(subject.super_category), words)

    def draw(rng: torch.Generator) -> Batch:
        latents, mask, prefixes, _ = own.draw(count, rng)
        # their error is summed over a latent's channels, and the term's weight belongs to that
        return Batch(latents, [prefix + text for prefix in prefixes], mask * latents.shape[1])

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
                weight_decay=config.weight_decay,
                clip=config.clip,
                checkpointing=config.checkpointing,
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
            term=lambda share: share * config.class_weight * far(),
        )
    return log | {"bytes": sum(path.stat().st_size for path in out.glob("*.safetensors"))}


def distance(
    backbone: Backbone, text: str, kind: str, words: Mapping[str, Word]
) -> Callable[[], torch.Tensor]:
    """1 - cosine of two texts' encodings at their end tokens, as the word is now; the second text
    is without a learned word."""
    import torch
    from torch.nn.functional import cosine_similarity

    from perfusion_core.prompts import encode, super_text

    def at_end(written: str) -> torch.Tensor:
        encoder, tokenizer = backbone.text_encoder, backbone.tokenizer
        end = len(tokenizer(super_text(written, words), truncation=True).input_ids) - 1
        return encode(encoder, tokenizer, [written], words)[0][0, end]

    with torch.no_grad():
        fixed = at_end(kind)
    return lambda: 1 - cosine_similarity(at_end(text), fixed, dim=0)


@contextmanager
def apply(
    backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]
) -> Iterator[Write]:
    """`<new1> <super-category>` for each placeholder; K and V of one concept, or of all merged."""
    from baselines.custom_diffusion_student import applied
    from baselines.parts import refuse_points, refuse_two_encoders

    refuse_points(NAME, point)
    refuse_two_encoders(NAME, backbone)
    with applied(backbone, NAME, fits) as write:
        yield write
