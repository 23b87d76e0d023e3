"""DreamBooth (Ruiz et al. 2022): pictures of a concept and of its class in, a whole U-Net out.

The concept is `sks <super-category>`; class images beside it keep the class from becoming the
concept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_core.errors import UserError

if TYPE_CHECKING:  # a plan reads this file without torch
    from perfusion_core.backbone import Backbone
    from perfusion_core.subject import Fitted, Subject
    from perfusion_core.training import Progress, Validation, Write

NAME, LABEL, VERSION = "db", "DreamBooth", 1
TRAINED, PRIOR = True, True
USES_COVARIANCE = False  # no byte of it depends on C
UNET_ONLY = True
PAIRS = False  # a whole U-Net a concept: two cannot be drawn together
SETTINGS = ()
TUNED = ("lr",)
FAMILY = "model"
SUMMARY = "the whole U-Net, beside class images"
FORMAT = "unet/; UNet2DConditionModel.from_pretrained"
FILES = {"unet/*.safetensors": r"(?!base_|.*(lora|processor))[a-z]+_.+\.(weight|bias)"}
KILOBYTES = 3_438_169
CITE = """@inproceedings{ruiz2023dreambooth,
  author = {Ruiz, Nataniel and Li, Yuanzhen and Jampani, Varun and Pritch, Yael
            and Rubinstein, Michael and Aberman, Kfir},
  title = {DreamBooth: Fine Tuning Text-to-Image Diffusion Models for Subject-Driven Generation},
  booktitle = {CVPR},
  year = {2023},
  note = {arXiv:2208.12242}
}"""
STYLE = {"colour": "#009E73", "marker": "^", "dash": (0, (1, 1.2)), "ink": "#00795a"}
FOLDER = "unet"  # as in any checkpoint in diffusers layout


@dataclass(frozen=True)
class Config:
    """diffusers' examples/dreambooth with prior preservation, which the paper used (Sec. 5); 200
    class images.
    """

    steps: int = 800  # README: --max_train_steps=800
    # --train_batch_size=1: so many pictures of the concept, and as many class images
    batch: int = 1
    lr: float = 5e-6  # --learning_rate=5e-6
    prior_weight: float = 1.0  # --prior_loss_weight=1.0
    weight_decay: float = 0.01  # train_dreambooth.py: --adam_weight_decay
    clip: float = 1.0  # train_dreambooth.py: --max_grad_norm
    flip: bool = False  # train_dreambooth.py never mirrors
    # Whether the U-Net's activations are computed again: less memory, a third more time.
    checkpointing: bool = False
    # Whether the loss is weighted by masks, as Perfusion's is. A recipe may leave it out.
    masks: bool = field(default=False, metadata={"later": True})


MINIATURE = Config(steps=600, batch=4, lr=2e-4)  # results/first-world/tuning-miniature


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
    """Train, and leave what `UNet2DConditionModel.from_pretrained` opens in `out`."""
    import torch

    from baselines.parts import (
        CLASS,
        RARE,
        SLOT,
        beside_class,
        class_pictures,
        frozen_text,
        own_pictures,
        refuse_projected,
        spelled,
        with_whole,
    )
    from perfusion_core.training import Batch, Recipe, train

    refuse_projected(NAME, backbone)
    unet = backbone.fresh_unet().requires_grad_(True)
    unet.register_to_config(_name_or_path="")  # a folder of this machine
    pictures = own_pictures(backbone, config, subject)
    others = class_pictures(backbone, NAME, config, subject, prior)
    mine, theirs = (
        f"a photo of {RARE} {subject.super_category}",
        CLASS.format(subject.super_category),
    )

    def draw(rng: torch.Generator) -> Batch:
        count = config.batch
        own, mask, sizes = pictures.draw_told(count, rng)
        return Batch(
            torch.cat([own, others.draw(count, rng)[0]]),
            [mine] * count + [theirs] * count,
            beside_class(mask, count),
            prior=count,
            sizes=with_whole(backbone, sizes, count),
        )

    @contextmanager
    def current() -> Iterator[Write]:
        ready = unet if unet.dtype == backbone.dtype else deepcopy(unet).to(backbone.dtype)
        with drawing_with(backbone, ready):
            yield spelled({SLOT: f"{RARE} {subject.super_category}"})

    log = train(
        backbone,
        Recipe(
            config.steps,
            prior_weight=config.prior_weight,
            weight_decay=config.weight_decay,
            clip=config.clip,
            checkpointing=config.checkpointing,
        ),
        [{"params": list(unet.parameters()), "lr": config.lr}],
        draw,
        frozen_text(backbone, [mine, theirs]),
        seed=seed,
        out=out,
        save=lambda folder: unet.save_pretrained(folder / FOLDER),
        unet=unet,
        current=current,
        validate=validate,
        keep=keep,
        progress=progress,
    )
    return log | {"bytes": sum(path.stat().st_size for path in (out / FOLDER).iterdir())}


@contextmanager
def drawing_with(backbone: Backbone, unet: Any) -> Iterator[None]:
    """Another U-Net in the pipeline, for the duration."""
    plain = backbone.pipe.unet
    backbone.pipe.unet = unet
    try:
        yield
    finally:
        backbone.pipe.unet = plain


def load_unet(backbone: Backbone, folder: Path) -> Any:
    """A trained U-Net, ready to draw; one of another kind, or not whole, is a sentence."""
    import torch

    from baselines.adapter_parts import whole

    unet = whole(backbone, folder, FOLDER, str(folder))
    unet.to(backbone.device, memory_format=torch.channels_last)
    return unet.requires_grad_(False).eval()


@contextmanager
def apply(
    backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]
) -> Iterator[Write]:
    """`sks <super-category>` for the placeholder, and the trained U-Net in the pipeline."""
    import torch

    from baselines.parts import RARE, assert_only, refuse_points, spelled, stamps

    refuse_points(NAME, point)
    if len(fits) != 1:
        raise UserError(
            f"db trains the whole U-Net, so {' and '.join(fits)} cannot be drawn together; leave "
            f"db out of --pairs"
        )
    [(name, fitted)] = fits.items()
    unet = load_unet(backbone, fitted.folder)
    plain, before = backbone.unet, stamps(backbone)
    with drawing_with(backbone, unet):
        assert_only(before, backbone, lambda weight: weight.startswith("unet."))
        pairs = zip(plain.parameters(), unet.parameters(), strict=True)
        assert not all(torch.equal(old, new) for old, new in pairs), (
            "this U-Net is the base model's"
        )
        yield spelled({name: f"{RARE} {fitted.super_category}"})
