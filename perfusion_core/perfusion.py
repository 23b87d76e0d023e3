"""Perfusion as a method: pictures of a concept in, a concept file out; and the file put to use at a run-time point.

Key locking, gated rank-one edits trained as they are used, an online i_star (Sec. 4), and the paper's ablations.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.concept import Concept
from perfusion_core.digests import text_shape
from perfusion_core.editing import BIAS, TEMPERATURE, attach, load_concepts, restored
from perfusion_core.errors import MissingMasks, unknown
from perfusion_core.prompts import TEMPLATES, Positions, Word, encode, named, super_encoding, super_token, token_vector
from perfusion_core.rank_one import Edit, EditedProjection, concept_basis
from perfusion_core.subject import Fitted, Subject
from perfusion_core.training import Batch, Latents, Progress, Recipe, Validation, Write, equal_parts, train

NAME, LABEL, VERSION = "perfusion", "Perfusion", 1
TRAINED, PRIOR = True, False
FILE = "concept.safetensors"


@dataclass(frozen=True)
class Config:
    """Section 4.4 of the paper."""

    steps: int = 400  # at most; validation keeps the best
    batch: int = 16
    accumulate: int = 1  # micro-batches of batch / accumulate
    lr: float = 0.03  # o_star_V
    lr_embedding: float = 0.006
    ema: float = 0.99  # of i_star
    train_bias: float = 0.75
    train_temperature: float = 0.1
    bias: float = BIAS  # of the validation's pictures: local lock, Sec. 4.4's range
    temperature: float = TEMPERATURE
    flip: bool = True  # never an asymmetric concept
    masks: bool = True  # Fig. 9c
    images: int = 0  # use only so many; 1: one-shot, Fig. 9a
    train_k: bool = False  # Fig. 9b: o_star_K learned as well
    vanilla_rome: bool = False  # Fig. A.1: optimise the concept's position alone, then edit with Eq. 1; no validation
    checkpointing: bool = False


MINIATURE = Config(lr=0.0075, lr_embedding=0.0015)  # results/tuning-miniature


class Student:
    """What is learned, and the layers that learn it; the paper's names."""

    def __init__(self, backbone: Backbone, subject: Subject, config: Config) -> None:
        self.backbone, self.subject, self.config = backbone, subject, config
        encoder, tokenizer, device = backbone.text_encoder, backbone.tokenizer, backbone.device
        self.layers = cross_attentions(backbone.unet)
        self.plain = [(layer.to_k, layer.to_v) for layer in self.layers.values()]
        self.e_super = super_encoding(encoder, tokenizer, subject.super_category)
        vector = token_vector(encoder, super_token(tokenizer, subject.super_category))
        self.embedding = nn.Parameter(vector, requires_grad=not config.vanilla_rome)
        self.i_star = self.first_i_star()
        self.o_k: list[torch.Tensor] = []
        self.o_v: list[torch.Tensor] = []
        for layer in self.layers.values():
            for side, into, learned in ((layer.to_k, self.o_k, config.train_k), (layer.to_v, self.o_v, True)):
                o_star = linear(self.e_super[None], side.weight.detach().float())  # [1, d_out]
                into.append(nn.Parameter(o_star) if learned else o_star)
        bias, temperature = torch.tensor([config.train_bias, config.train_temperature]).double().to(device).split(1)
        self.edit = Edit(self.basis(), bias, temperature)
        self.waiting: list[Positions] = []
        self.steps = torch.zeros((), dtype=torch.int64)

    @property
    def word(self) -> Word:
        return Word(self.subject.super_category, None if self.config.vanilla_rome else self.embedding)

    def first_i_star(self) -> torch.Tensor:
        """The super-category's encoding; for vanilla ROME its mean over the templates (Sec. 3.2, step 1)."""
        if not self.config.vanilla_rome:
            return self.e_super.clone()
        with torch.no_grad():
            encodings, positions = self.encode_texts([named(template, self.subject.name) for template in TEMPLATES])
        return at(encodings, positions, self.subject.name).mean(0)

    def basis(self) -> Any:
        return concept_basis(self.i_star[None], self.backbone.c_inv)

    def encode_texts(self, texts: list[str]) -> tuple[torch.Tensor, list[Positions]]:
        """Each different text once; there are nine."""
        distinct = list(dict.fromkeys(texts))
        words = {self.subject.name: self.word}
        encodings, positions = encode(self.backbone.text_encoder, self.backbone.tokenizer, distinct, words)
        rows = [distinct.index(text) for text in texts]
        return encodings[rows], [positions[row] for row in rows]

    def encode(self, texts: list[str]) -> torch.Tensor:
        """Once an optimizer step: i_star moves towards the mean over the whole effective batch, before it is used."""
        encodings, self.waiting = self.encode_texts(texts)
        self.steps += 1
        if not self.config.vanilla_rome:
            mean = at(encodings, self.waiting, self.subject.name).detach().mean(0)
            self.i_star.mul_(self.config.ema).add_(mean, alpha=1 - self.config.ema)
            self.edit.basis = self.basis()
        return encodings

    def prepare(self, encodings: torch.Tensor) -> None:
        """Before each U-Net call: what all layers share is computed once, outside of any recomputed block."""
        if self.config.vanilla_rome:
            mine, self.waiting = self.waiting[: len(encodings)], self.waiting[len(encodings) :]
            for layer in self.layers.values():
                for side in (layer.to_k, layer.to_v):
                    side.columns = [found[self.subject.name][0] for found in mine]
        else:
            self.edit.parts(encodings)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The layers in training; afterwards the plain ones."""
        with restored(self.layers):
            if self.config.vanilla_rome:
                for layer, o_k, o_v in zip(self.layers.values(), self.o_k, self.o_v, strict=True):
                    layer.to_k, layer.to_v = OnePosition(layer.to_k, o_k), OnePosition(layer.to_v, o_v)
            else:
                attach(self.layers, self.edit, self.o_k, self.o_v)
            yield

    @contextmanager
    def current(self) -> Iterator[Write]:
        """The present state as it will be used, for validation in the middle of training."""
        name, config = self.subject.name, self.config
        with restored(self.layers):
            for layer, (to_k, to_v) in zip(self.layers.values(), self.plain, strict=True):
                layer.to_k, layer.to_v = to_k, to_v
            with using(self.backbone, {name: self.concept()}, "local", config.bias, config.temperature):
                yield lambda template: named(template, name)

    def groups(self) -> list[dict[str, Any]]:
        config = self.config
        groups = [{"params": self.o_v, "lr": config.lr}]
        if config.train_k:
            groups.append({"params": self.o_k, "lr": config.lr})
        if not config.vanilla_rome:
            groups.append({"params": [self.embedding], "lr": config.lr_embedding})
        return groups

    def concept(self) -> Concept:
        """The present state, as it is saved."""
        backbone, config = self.backbone, self.config
        return Concept(
            placeholder=self.subject.name,
            super_category=self.subject.super_category,
            i_star=self.i_star.detach().clone(),
            embedding=self.embedding.detach().clone(),
            o_v=tuple(o.detach()[0].clone() for o in self.o_v),
            o_k=tuple(o.detach()[0].clone() for o in self.o_k) if config.train_k else None,
            super_encoding=self.e_super,
            text_digest=backbone.text_digest,
            text_shape=text_shape(backbone.text_encoder),
            backbone=f"{backbone.name} {backbone.digest}",
            gate="linear" if config.vanilla_rome else "sigmoid",
            train_bias=config.train_bias,
            train_temperature=config.train_temperature,
            steps=int(self.steps),
        )


class OnePosition(nn.Module):
    """Vanilla ROME's step 2: the output is replaced where the concept's word stands, and nowhere else."""

    def __init__(self, plain: nn.Linear, o_star: torch.Tensor) -> None:
        super().__init__()
        self.plain, self.o_star = plain, o_star
        self.columns: list[int] = []

    def forward(self, encodings: torch.Tensor) -> torch.Tensor:
        out = self.plain(encodings)
        index = (torch.arange(len(out), device=out.device), torch.tensor(self.columns, device=out.device))
        return out.index_put(index, self.o_star.to(out).expand(len(out), -1))


def at(encodings: torch.Tensor, positions: list[Positions], name: str) -> torch.Tensor:
    """The encodings [n, d] of a concept's word, one a text."""
    return torch.stack([encodings[row, found[name][0]] for row, found in enumerate(positions)])


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
    """Train, and leave `concept.safetensors` in `out`; -> what goes to fit.json.

    Args:
        subject: the concept's images, masks and super-category.
        config: the recipe.
        seed: of the order of pictures and of all noise.
        prior: class images; Perfusion uses none.
        validate: what picks the best step; without it the last one is kept.
        keep: steps whose state is also saved, under `out/step-<n>/`.
        progress: called with step, steps and loss after each step.
    """
    if config.masks and subject.masks is None:
        raise MissingMasks(f"the concept {subject.name!r} has no masks; give it some, or set masks=false")
    count = equal_parts(config.batch, config.accumulate)
    student = Student(backbone, subject, config)
    few = slice(0, config.images or None)
    masks = subject.masks[few] if config.masks and subject.masks is not None else None
    pictures = Latents.of(backbone, subject.images[few], masks, flip=subject.mirrored(config.flip))

    def draw(rng: torch.Generator) -> Batch:
        latents, mask = pictures.draw(count, rng)
        which = torch.randint(len(TEMPLATES), (count,), generator=rng).tolist()
        return Batch(latents, [named(TEMPLATES[n], subject.name) for n in which], mask)

    def save(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        student.concept().save(folder / FILE)

    with student.attached():
        log = train(
            backbone,
            Recipe(config.steps, config.accumulate, checkpointing=config.checkpointing),
            student.groups(),
            draw,
            student.encode,
            seed=seed,
            out=out,
            save=save,
            prepare=student.prepare,
            state={"i_star": student.i_star, "steps": student.steps},
            current=student.current,
            validate=None if config.vanilla_rome else validate,
            keep=keep,
            progress=progress,
        )
    return log | {"bytes": (out / FILE).stat().st_size}


@contextmanager
def apply(backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]) -> Iterator[Write]:
    """Inside the block `{name}` in a text means the concept; gives `write`, which leaves texts as they are.

    Args:
        fits: the trained files by concept.
        point: lock, bias and temperature; what is left out is the usual one.
    """
    for key in point:
        if key not in ("lock", "bias", "temperature"):
            raise unknown("run-time parameter of perfusion", key, ("lock", "bias", "temperature"))
    concepts = {name: Concept.load(fitted.folder / FILE) for name, fitted in fits.items()}
    lock, bias = point.get("lock", "local"), point.get("bias", BIAS)
    with using(backbone, concepts, lock, bias, point.get("temperature", TEMPERATURE)) as write:
        yield write


@contextmanager
def using(
    backbone: Backbone, concepts: Mapping[str, Concept], lock: str, bias: Any, temperature: Any
) -> Iterator[Callable[[str], str]]:
    """The backbone with concepts; `sample` resolves the {names}, so the text stays as it is."""
    with load_concepts(backbone.pipe, concepts, lock, bias, temperature, c_inv=backbone.c_inv):
        assert_applied(backbone, concepts)
        yield lambda text: text


@torch.no_grad()
def assert_applied(backbone: Backbone, concepts: Mapping[str, Concept]) -> None:
    """Every V is edited by these concepts' o_star; every weight is the pretrained one."""
    o_stars = zip(*(concept.o_v for concept in concepts.values()), strict=True)
    for layer, o_star in zip(cross_attentions(backbone.unet).values(), o_stars, strict=True):
        assert isinstance(layer.to_v, EditedProjection), "the concept is not applied"
        assert torch.equal(layer.to_v.o_star.cpu(), torch.stack([o.cpu() for o in o_star])), (
            "another concept is applied"
        )
