"""AttnDreamBooth (Pang et al. 2024): pictures of a concept in; one embedding and a whole U-Net out.

The concept is `<name> <super-category>`. Three stages follow each other: the word is learned, then
the cross-attentions, then the whole U-Net. In each, the word's attention is kept like that of its
super-category: in mean and variance over heads and positions, layer by layer.

Loss and schedule are those of train_attndreambooth.py and .sh. Left out: they mirror a quarter of
the pictures, here half of them are; they turn most of them by up to 45 degrees and cut them at
random; and their base is Stable Diffusion 2.1, here it is any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_core.errors import UserError

if TYPE_CHECKING:  # a plan reads this file without torch
    import torch
    from torch import nn

    from perfusion_core.backbone import Backbone
    from perfusion_core.subject import Fitted, Subject
    from perfusion_core.training import Progress, Validation, Write

NAME, LABEL, VERSION = "attndreambooth", "AttnDreamBooth", 1
TRAINED, PRIOR = True, False
USES_COVARIANCE = False  # no byte of it depends on C
UNET_ONLY = True
ONE_ENCODER = True
PAIRS = False  # a whole U-Net a concept: two cannot be drawn together
SETTINGS = ()
TUNED = ("lr_word", "lr_attention", "lr")
UNTUNED = True
FAMILY = "model"
SUMMARY = "the whole U-Net and a word that is attended to like its super-category"
FORMAT = (
    "unet/, UNet2DConditionModel.from_pretrained; learned_embeds.safetensors, "
    "load_textual_inversion"
)
KILOBYTES = 3_438_172
FILES = {
    "unet/*.safetensors": r"(?!base_|.*(lora|processor))[a-z]+_.+\.(weight|bias)",
    "learned_embeds.safetensors": r"(?!.+\.(weight|bias|alpha)$).+",
}
STYLE = {"colour": "#009E73", "marker": "v", "dash": (0, (4, 1.2, 1, 1.2)), "ink": "#00795a"}
CITE = """@inproceedings{pang2024attndreambooth,
  title = {{AttnDreamBooth}: Towards Text-Aligned Personalized Text-to-Image Generation},
  author = {Pang, Lianyu and Yin, Jian and Zhao, Baoquan and Wu, Feize and Wang, Fu Lee and
            Li, Qing and Mao, Xudong},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024},
  note = {arXiv:2406.05000}
}"""
# steps of a stage, and what attention counts in the loss
NOT_NEGATIVE = ("word_steps", "attention_steps", "word_mean_weight", "word_variance_weight",
                "mean_weight", "variance_weight")  # fmt: skip
FOLDER, FILE = "unet", "learned_embeds.safetensors"  # as DreamBooth's and Textual Inversion's


@dataclass(frozen=True)
class Config:
    """lyuPang/AttnDreamBooth, bash_script/train_attndreambooth.sh, which is the paper's."""

    steps: int = 660  # 60 + 100 + 500; a shorter training ends within an earlier stage
    word_steps: int = 60  # ti_train_steps: at first the embedding alone
    attention_steps: int = 100  # attn_train_steps: then the cross-attentions
    batch: int = 8  # ti_bs, attn_bs, unet_bs
    lr_word: float = 1e-3  # ti_learning_rate
    lr_attention: float = 2e-5  # attn_learning_rate
    lr: float = 2e-6  # unet_learning_rate
    word_mean_weight: float = 0.1  # ti_attn_mean: of attention's mean while the word is learned
    word_variance_weight: float = 0.0  # ti_attn_var: of its variance
    mean_weight: float = 2.0  # attn_attn_mean, unet_attn_mean: afterwards
    variance_weight: float = 5.0  # attn_attn_var, unet_attn_var
    weight_decay: float = 0.01  # --adam_weight_decay
    flip: bool = True  # --flip_p, which is 0.25 there; here never an asymmetric concept
    # Whether the U-Net's activations are computed again: less memory, a third more time.
    checkpointing: bool = False
    # Whether the loss is weighted by masks, as Perfusion's is. A recipe may leave it out.
    masks: bool = field(default=False, metadata={"later": True})

    def __post_init__(self) -> None:
        for name in NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name)}: at least 0 is needed")


MINIATURE = Config(lr_word=0.0025, lr_attention=4e-4, lr=2e-4)


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
    """Train, and leave a U-Net and an embedding in `out`, each as diffusers opens it."""
    from baselines.dreambooth import drawing_with
    from baselines.parts import learned_text, own_pictures, refuse_two_encoders, spelled, spoken
    from baselines.textual_inversion import first_vector
    from perfusion_core.backbone import cross_attentions
    from perfusion_core.files import write_tensors
    from perfusion_core.prompts import Word, tokenize
    from perfusion_core.training import Batch, Recipe, train

    refuse_two_encoders(NAME, backbone)
    vector = first_vector(backbone, subject.super_category)
    words = {subject.name: Word(subject.super_category, vector)}
    unet = backbone.fresh_unet()
    unet.register_to_config(_name_or_path="")  # a folder of this machine
    pictures = own_pictures(backbone, config, subject)
    spoken_as = f"{{{subject.name}}} {subject.super_category}"
    text = f"a photo of a {spoken_as}"
    _, [found] = tokenize(backbone.tokenizer, [text], words)
    stages = Stages(config, vector, unet)
    watch = Watch(list(cross_attentions(unet).values()), found[subject.name][0])

    def draw(rng: torch.Generator) -> Batch:
        latents, mask = pictures.draw(config.batch, rng)
        return Batch(latents, [text] * config.batch, mask)

    def term(share: float) -> torch.Tensor:
        mean, variance = watch.apart()
        return stages.mean_weight * mean + stages.variance_weight * variance

    def save(folder: Path) -> None:
        unet.save_pretrained(folder / FOLDER)
        write_tensors(folder / FILE, {f"<{subject.name}>": vector}, {"format": "pt"})

    @contextmanager
    def current() -> Iterator[Write]:
        ready = unet if unet.dtype == backbone.dtype else deepcopy(unet).to(backbone.dtype)
        with drawing_with(backbone, ready), spoken(backbone, words):
            yield spelled({"": spoken_as})

    log = train(
        backbone,
        Recipe(config.steps, weight_decay=config.weight_decay, checkpointing=config.checkpointing),
        stages.groups,
        draw,
        learned_text(backbone, words),
        seed=seed,
        out=out,
        save=save,
        unet=unet,
        prepare=lambda encodings: watch.begin(),
        current=current,
        validate=validate,
        keep=keep,
        progress=progress,
        begin=stages.begin,
        term=term,
    )
    files = [*(out / FOLDER).iterdir(), out / FILE]
    return log | {"bytes": sum(path.stat().st_size for path in files)}


class Stages:
    """What learns in each step, and how much attention counts in its loss."""

    def __init__(self, config: Config, vector: nn.Parameter, unet: Any) -> None:
        from perfusion_core.backbone import cross_attentions

        self.config = config
        across = [p for layer in cross_attentions(unet).values() for p in layer.parameters()]
        known = {id(p) for p in across}
        rest = [p for p in unet.parameters() if id(p) not in known]
        rates = (config.lr_word, config.lr_attention, config.lr)
        parts: tuple[list[Any], ...] = ([vector], across, rest)
        self.groups: list[dict[str, Any]] = [
            {"params": part, "lr": lr} for part, lr in zip(parts, rates, strict=True)
        ]
        self.mean_weight = self.variance_weight = 0.0

    def begin(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Before each step. At the first of a stage the optimizer begins anew, as theirs does."""
        config = self.config
        firsts = (1, 1 + config.word_steps, 1 + config.word_steps + config.attention_steps)
        stage = max(n for n, first in enumerate(firsts) if step >= first)
        word = stage == 0
        self.mean_weight = config.word_mean_weight if word else config.mean_weight
        self.variance_weight = config.word_variance_weight if word else config.variance_weight
        for n, group in enumerate(optimizer.param_groups):
            learns = n == stage or (n, stage) == (1, 2)
            if stage == 2 and learns:
                group["lr"] = config.lr
            for parameter in group["params"]:
                parameter.requires_grad_(learns)
                if step == firsts[stage]:
                    optimizer.state.pop(parameter, None)


class Watch:
    """The cross-attentions' queries and keys in one U-Net call, with their gradient."""

    def __init__(self, layers: Sequence[Any], at: int) -> None:
        self.layers, self.at = layers, at  # the word's position; its super-category stands behind
        self.sides: list[dict[str, torch.Tensor]] = []
        self.handles: list[Any] = []

    def begin(self) -> None:
        self.end()
        self.sides = [{} for _ in self.layers]
        for seen, layer in zip(self.sides, self.layers, strict=True):
            for side in ("to_q", "to_k"):
                hook = partial(remember, seen, side)
                self.handles.append(getattr(layer, side).register_forward_hook(hook))

    def end(self) -> None:
        """What recomputes activations later is not seen."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def apart(self) -> tuple[torch.Tensor, torch.Tensor]:
        """How far word and super-category are apart: squared differences of their attention's mean
        and variance, added up over the rows as in train_attndreambooth.py, the mean over layers.
        """
        import torch

        self.end()
        means, variances = [], []
        for seen, layer in zip(self.sides, self.layers, strict=True):
            query, key = (layer.head_to_batch_dim(seen[side].float()) for side in ("to_q", "to_k"))
            probs = layer.get_attention_scores(query, key).unflatten(0, (-1, layer.heads))
            word, kind = (probs[..., self.at + n].flatten(1) for n in (0, 1))
            means.append(((word.mean(1) - kind.mean(1)) ** 2).sum())
            variances.append(((word.var(1) - kind.var(1)) ** 2).sum())
        return torch.stack(means).mean(), torch.stack(variances).mean()


def remember(
    seen: dict[str, torch.Tensor], side: str, layer: nn.Module, given: Any, out: torch.Tensor
) -> None:
    seen[side] = out


@contextmanager
def apply(
    backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]
) -> Iterator[Write]:
    """The trained U-Net in the pipeline; `<name> <super-category>` for the placeholder."""
    import torch

    from baselines.dreambooth import drawing_with, load_unet
    from baselines.fitting import word_in
    from baselines.parts import (
        assert_only,
        refuse_points,
        refuse_two_encoders,
        spelled,
        spoken,
        stamps,
    )
    from baselines.textual_inversion import first_vector
    from perfusion_core.prompts import Word

    refuse_points(NAME, point)
    refuse_two_encoders(NAME, backbone)
    if len(fits) != 1:
        raise UserError(
            f"{NAME} trains the whole U-Net, so {' and '.join(fits)} cannot be drawn together; "
            f"leave it out of --pairs"
        )
    [(name, fitted)] = fits.items()
    vector = word_in(NAME, backbone, fitted.folder / FILE)
    unet = load_unet(backbone, fitted.folder)
    plain, before = backbone.unet, stamps(backbone)
    pairs = [
        *zip(plain.parameters(), unet.parameters(), strict=True),
        (first_vector(backbone, fitted.super_category), vector),
    ]
    words = {name: Word(fitted.super_category, vector)}
    with drawing_with(backbone, unet), spoken(backbone, words):
        assert_only(before, backbone, lambda weight: weight.startswith("unet."))
        # a fit that ended in its first stage has the base model's U-Net, and another word
        assert not all(torch.equal(old, new) for old, new in pairs), "this is the base model"
        yield spelled({name: f"{{{name}}} {fitted.super_category}"})
