"""What Perfusion learns, and the layers that learn it. In: a backbone, a subject, a Config. Out: a
`Student`.

The shared loop trains it; `using` puts a finished concept into a backbone, as validation and
`apply` do.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.concept import Concept
from perfusion_core.editing import attach, load_concepts, restored
from perfusion_core.perfusion_settings import Config
from perfusion_core.prompts import TEMPLATES, Positions, Word, named, super_text
from perfusion_core.rank_one import Edit, EditedProjection, concept_basis
from perfusion_core.subject import Subject
from perfusion_core.training import Write


class Student:
    """What is learned, and the layers that learn it; the paper's names."""

    def __init__(self, backbone: Backbone, subject: Subject, config: Config) -> None:
        self.backbone, self.subject, self.config = backbone, subject, config
        text, device = backbone.text, backbone.device
        self.layers = cross_attentions(backbone.unet)
        self.plain = [(layer.to_k, layer.to_v) for layer in self.layers.values()]
        self.e_super = text.super_encoding(subject.super_category)
        vector = text.token_vector(subject.super_category)
        self.embedding = nn.Parameter(vector, requires_grad=not config.vanilla_rome)
        self.i_star = self.first_i_star()
        self.o_k: list[torch.Tensor] = []
        self.o_v: list[torch.Tensor] = []
        for layer in self.layers.values():
            for side, into, learned in (
                (layer.to_k, self.o_k, config.train_k),
                (layer.to_v, self.o_v, True),
            ):
                o_star = linear(self.e_super[None], side.weight.detach().float())  # [1, d_out]
                into.append(nn.Parameter(o_star) if learned else o_star)
        bias, temperature = (
            torch.tensor([config.train_bias, config.train_temperature]).double().to(device).split(1)
        )
        if self.linear:  # Eq. 2 has neither
            bias, temperature = torch.zeros_like(bias), torch.ones_like(temperature)
        self.edit = Edit(self.basis(), bias, temperature, [self.linear])
        self.waiting: list[Positions] = []
        self.known_pooled: dict[str, torch.Tensor] = {}  # of texts without a learned word
        self.known_masks: dict[str, torch.Tensor] = {}
        self.steps = torch.zeros((), dtype=torch.int64)

    @property
    def word(self) -> Word:
        return Word(
            self.subject.super_category, None if self.config.vanilla_rome else self.embedding
        )

    @property
    def linear(self) -> bool:
        return self.config.vanilla_rome or self.config.gate == "linear"

    def first_i_star(self) -> torch.Tensor:
        """The super-category's encoding; for vanilla ROME its mean over the templates (Sec. 3.2,
        step 1).
        """
        if not self.config.vanilla_rome:
            return self.e_super.clone()
        with torch.no_grad():
            encodings, positions = self.encode_texts(
                [named(template, self.subject.name) for template in TEMPLATES]
            )
        return at(encodings, positions, self.subject.name).mean(0)

    def basis(self) -> Any:
        return concept_basis(self.i_star[None], self.backbone.c_inv)

    def encode_texts(self, texts: list[str]) -> tuple[torch.Tensor, list[Positions]]:
        """Each different text once; there are nine."""
        distinct = list(dict.fromkeys(texts))
        words = {self.subject.name: self.word}
        read = self.backbone.text.encode(distinct, words)
        rows = [distinct.index(text) for text in texts]
        return repeated(read.encodings, rows), [read.positions[row] for row in rows]

    @torch.no_grad()
    def pooled(self, texts: list[str]) -> torch.Tensor:
        """Pooled text [n, p]: of the super-category's prompts, or of the concept's as it is now."""
        words, known = {self.subject.name: self.word}, self.known_pooled
        if self.config.pooled == "super":
            texts, words = [super_text(text, words) for text in texts], {}
        else:
            known.clear()
        for text in texts:  # one at a time: low bits depend on no other text, nor on a resume
            if text not in known:
                found = self.backbone.text.encode([text], words).pooled
                assert found is not None, "asked of a U-Net that reads pooled text"
                known[text] = found[0]
        return torch.stack([known[text] for text in texts])

    def masks(self, texts: list[str]) -> torch.Tensor:
        """Which tokens of each text count, [n, M]."""
        known, words = self.known_masks, {self.subject.name: self.word}
        for text in texts:
            if text not in known:
                found = self.backbone.text.mask([text], words)
                assert found is not None, "asked of a transformer that reads masks"
                known[text] = found[0].to(self.backbone.device)
        return torch.stack([known[text] for text in texts])

    def encode(self, texts: list[str]) -> torch.Tensor:
        """Once an optimizer step: i_star moves towards the mean over the whole effective batch,
        before it is used.
        """
        encodings, self.waiting = self.encode_texts(texts)
        self.steps += 1
        if not self.config.vanilla_rome:
            mean = at(encodings, self.waiting, self.subject.name).detach().mean(0)
            self.i_star.mul_(self.config.ema).add_(mean, alpha=1 - self.config.ema)
            self.edit.basis = self.basis()
        return encodings

    def prepare(self, encodings: torch.Tensor) -> None:
        """Before each U-Net call: what all layers share is computed once, outside of any recomputed
        block.
        """
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
                    layer.to_k, layer.to_v = (
                        OnePosition(layer.to_k, o_k),
                        OnePosition(layer.to_v, o_v),
                    )
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
            with using(
                self.backbone, {name: self.concept()}, "local", config.bias, config.temperature
            ):
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
            text_shape=backbone.text.shape(),
            backbone=f"{backbone.name} {backbone.digest}",
            gate="linear" if self.linear else "sigmoid",
            train_bias=config.train_bias,
            train_temperature=config.train_temperature,
            steps=int(self.steps),
            names=tuple(self.layers),
            pooled=config.pooled,
        )


class OnePosition(nn.Module):
    """Vanilla ROME's step 2: the output is replaced where the concept's word stands, and nowhere
    else.
    """

    def __init__(self, plain: nn.Linear, o_star: torch.Tensor) -> None:
        super().__init__()
        self.plain, self.o_star = plain, o_star
        self.columns: list[int] = []

    def forward(self, encodings: torch.Tensor) -> torch.Tensor:
        out = self.plain(encodings)
        index = (
            torch.arange(len(out), device=out.device),
            torch.tensor(self.columns, device=out.device),
        )
        # o_star is W e alone, as everywhere; a bias stays
        bias = getattr(self.plain, "bias", None)
        o_star = self.o_star if bias is None else self.o_star + bias
        return out.index_put(index, o_star.to(out).expand(len(out), -1))


def repeated(encodings: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """encodings[rows], whose gradient is added up in the order of the rows whatever the number of
    threads.

    Indexing with a list adds in any order where there are two threads, and two trainings differ.
    """
    each = encodings.unbind(0)
    return torch.stack([each[row] for row in rows])


def at(encodings: torch.Tensor, positions: list[Positions], name: str) -> torch.Tensor:
    """The encodings [n, d] of a concept's word, one a text."""
    return torch.stack([encodings[row, found[name][0]] for row, found in enumerate(positions)])


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
    layers = cross_attentions(backbone.unet)
    o_stars = zip(*(concept.arranged(layers).o_v for concept in concepts.values()), strict=True)
    for layer, o_star in zip(layers.values(), o_stars, strict=True):
        assert isinstance(layer.to_v, EditedProjection), "the concept is not applied"
        assert torch.equal(layer.to_v.o_star.cpu(), torch.stack([o.cpu() for o in o_star])), (
            "another concept is applied"
        )
