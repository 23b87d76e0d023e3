"""Pivotal tuning, LoRA with a word of its own: pictures of a concept in; the embeddings of two new
words, and matrices of rank 4 beside the attention's weights, out of one training.

The concept is `<teddy> <teddy>_1 <super-category>`; after `word_steps` steps its words learn no
more, and a shorter training has no such half. Left out of diffusers' advanced script: Prodigy and
the weights by signal to noise that its page turns on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_core.errors import UserError

if TYPE_CHECKING:  # a plan reads this file without torch
    import torch
    from torch import nn

    from perfusion_core.backbone import Backbone
    from perfusion_core.prompts import Word
    from perfusion_core.subject import Fitted, Subject
    from perfusion_core.training import Progress, Validation, Write

NAME, LABEL, VERSION = "pivotal", "Pivotal tuning", 2
FAMILY = "adapter"
SUMMARY = "embeddings of two new words, and rank-4 matrices beside all attention weights"
FORMAT = "NAME_lora.safetensors, NAME_emb.safetensors; load_lora_weights, load_textual_inversion"
FILES = {
    "*_lora.safetensors": ".*lora.*",
    "*_emb.safetensors": r"(?!.+\.(weight|bias|alpha)$).+",
}
KILOBYTES = 3232  # on Stable Diffusion 1.5
CITE = """@article{roich2022pivotal,
  title = {Pivotal Tuning for Latent-based Editing of Real Images},
  author = {Roich, Daniel and Mokady, Ron and Bermano, Amit H. and Cohen-Or, Daniel},
  journal = {ACM Transactions on Graphics},
  volume = {42},
  number = {1},
  year = {2022}
}"""
TRAINED, PRIOR = True, False
USES_COVARIANCE = False  # no byte of it depends on C
UNET_ONLY = True
ONE_ENCODER = True
SETTINGS = ()
UNTUNED = True
TUNED = ("lr", "lr_embedding")
STYLE = {"colour": "#6F4E37", "marker": "<", "dash": (0, (4, 1.2, 1, 1.2))}
PULL = 0.1  # the script's off_ratio**0.1
MOST_WORDS = 70  # of CLIP's 77 tokens: not start and end, "a photo of a" and the super-category
LORA, WORDS = "_lora.safetensors", "_emb.safetensors"  # ends of its files' names


@dataclass(frozen=True)
class Config:
    """diffusers' train_dreambooth_lora_sd15_advanced.py with --train_text_encoder_ti and AdamW."""

    steps: int = 1000  # its README: --max_train_steps=1000
    word_steps: int = 500  # --train_text_encoder_ti_frac=0.5 of these; here whole steps
    batch: int = 4  # --train_batch_size
    lr: float = 1e-4  # --learning_rate, of the matrices
    # ti_lr of replicate/cog-sdxl, whose words the script took over; its own 5e-6 is for weights
    lr_embedding: float = 3e-4
    words: int = 2  # --num_new_tokens_per_abstraction
    rank: int = 4  # --rank; alpha is the same, so the matrices' product counts once
    weight_decay: float = 1e-4  # --adam_weight_decay, of matrices and words
    clip: float = 1.0  # --max_grad_norm
    flip: bool = False  # the script never mirrors
    # Whether the U-Net's activations are computed again: less memory, a third more time.
    checkpointing: bool = False
    # Whether the loss is weighted by masks, as Perfusion's is.
    masks: bool = field(default=False, metadata={"later": True})

    def __post_init__(self) -> None:
        for name, least in (("rank", 1), ("words", 1), ("word_steps", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)}: at least {least} is needed")
        if self.words > MOST_WORDS:
            raise UserError(
                f"words={self.words}: at most {MOST_WORDS} is allowed, because CLIP reads 77 "
                f"tokens and the prompt is among them"
            )


MINIATURE = Config(steps=75, word_steps=75, batch=4, lr=4e-3, lr_embedding=5e-3)


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
    """Train, and leave what `load_lora_weights` and `load_textual_inversion` open in `out`."""
    import torch

    from baselines.lora import adapted, save
    from baselines.parts import (
        SLOT,
        learned_text,
        own_pictures,
        refuse_two_encoders,
        spelled,
        spoken,
    )
    from perfusion_core.files import write_tensors
    from perfusion_core.training import Batch, Recipe, train

    refuse_two_encoders(NAME, backbone)
    vectors = new_vectors(backbone, config.words, seed)
    words = words_of(subject.name, subject.super_category, vectors)
    concept = written_out(words, subject.super_category)
    pictures = own_pictures(backbone, config, subject)
    encode, done = learned_text(backbone, words), torch.zeros(1, dtype=torch.int64)

    def draw(rng: torch.Generator) -> Batch:
        latents, mask = pictures.draw(config.batch, rng)
        return Batch(latents, [f"a photo of a {concept}"] * config.batch, mask)

    def encode_texts(texts: list[str]) -> torch.Tensor:
        """Once a step: without gradient to the words once they are to stay."""
        with torch.set_grad_enabled(int(done) < config.word_steps):
            encodings = encode(texts)
        done.add_(1)
        return encodings

    spread = spread_of(backbone)

    def pull(step: int, optimizer: Any) -> None:
        """The script's: after each step of the whole training the words' spread is drawn towards
        the table's.
        """
        with torch.no_grad():
            factor = (spread / torch.stack([*vectors]).std()) ** PULL
            for vector in vectors:
                vector.mul_(factor)

    @contextmanager
    def current() -> Iterator[Write]:
        with spoken(backbone, words):
            yield spelled({SLOT: concept})

    def save_both(folder: Path) -> None:
        save(backbone.unet, folder, f"{subject.name}{LORA}")
        rows = {f"<{subject.name}>": torch.stack([*vectors])}  # [words, d]
        write_tensors(folder / f"{subject.name}{WORDS}", rows, {"format": "pt"})

    with adapted(backbone, config.rank, seed) as matrices:
        log = train(
            backbone,
            Recipe(
                config.steps,
                weight_decay=config.weight_decay,
                clip=config.clip,
                checkpointing=config.checkpointing,
            ),
            [
                {"params": matrices, "lr": config.lr},
                {"params": vectors, "lr": config.lr_embedding},
            ],
            draw,
            encode_texts,
            seed=seed,
            out=out,
            save=save_both,
            state={"steps": done},
            current=current,
            validate=validate,
            keep=keep,
            progress=progress,
            end=pull,
        )
    return log | {"bytes": sum(only(out, end).stat().st_size for end in (LORA, WORDS))}


# ---- words ----


def new_vectors(backbone: Backbone, many: int, seed: int) -> list[nn.Parameter]:
    """Of words that mean nothing yet: noise as widely spread as the table's embeddings."""
    import torch
    from torch import nn

    width = backbone.text_encoder.get_input_embeddings().weight.shape[1]
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(many, width, generator=rng) * spread_of(backbone).cpu()
    return [nn.Parameter(row.clone().to(backbone.device)) for row in noise]


def spread_of(backbone: Backbone) -> torch.Tensor:
    """Standard deviation of all numbers of the embedding table."""
    return backbone.text_encoder.get_input_embeddings().weight.float().std()


def words_of(name: str, super_category: str, vectors: Sequence[torch.Tensor]) -> dict[str, Word]:
    """A {name} for each new word of a concept."""
    from perfusion_core.prompts import Word

    return {f"{name} {n}": Word(super_category, vector) for n, vector in enumerate(vectors, 1)}


def written_out(words: Iterable[str], super_category: str) -> str:
    """What stands for a concept in a prompt."""
    return " ".join([*(f"{{{word}}}" for word in words), super_category])


def load_words(backbone: Backbone, file: Path) -> list[torch.Tensor]:
    from baselines.adapter_files import read
    from baselines.adapter_word import vectors_of

    [vectors] = vectors_of(read(file, str(file)), backbone, str(file))
    return list(vectors.to(backbone.device))


# ---- files ----


def only(folder: Path, end: str) -> Path:
    """The file of a fit whose name ends so, whatever the concept was called in training."""
    found = sorted(folder.glob(f"*{end}"))
    if len(found) != 1:
        raise UserError(
            f"{folder} has {len(found)} files *{end}, and one is wanted; name a folder that "
            f"pivotal trained"
        )
    return found[0]


@contextmanager
def apply(
    backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]
) -> Iterator[Write]:
    """New words and <super-category> for each placeholder; the matrices of several concepts add up,
    as diffusers adds them.
    """
    import torch

    from baselines.lora import assert_applied, beside
    from baselines.parts import refuse_points, refuse_two_encoders, spelled, spoken, stamps
    from baselines.textual_inversion import said

    refuse_points(NAME, point)
    refuse_two_encoders(NAME, backbone)
    loras = [only(fitted.folder, LORA) for fitted in fits.values()]
    words: dict[str, Word] = {}
    spelt: dict[str, str] = {}
    for name, fitted in fits.items():
        vectors = load_words(backbone, only(fitted.folder, WORDS))
        mine = words_of(name, fitted.super_category, vectors)
        spelt[name] = written_out(mine, fitted.super_category)
        words |= mine
    before = stamps(backbone)
    with beside(NAME, backbone, loras) as pairs:
        assert_applied(backbone, before, pairs)
        with spoken(backbone, words):
            for word, one in words.items():
                assert not torch.equal(said(backbone, f"{{{word}}}"), said(backbone, one.text)), (
                    f"{{{word}}} means the same as {one.text!r}"
                )
            yield spelled(spelt)
