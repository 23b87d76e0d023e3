"""The text encoders of a pipeline as one. In: texts with {names}. Out: what cross-attentions read.

Stable Diffusion 1.x and 2.x have one encoder, whose last output is read. Stable Diffusion XL has
two, whose penultimate outputs stand side by side; the second also gives one pooled vector a text,
which the U-Net adds to its time embedding. A learned word is one vector of the joint width: its
parts, encoder after encoder, are written into each encoder at the same position. PixArt and Sana
read one encoder behind a projection: `CaptionEncoders` has both, the encoder's words and the
encodings behind.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from perfusion_core.caption_text import (
    Reading,
    Tokens,
    caption_tokens,
    piece_of,
    unread_caption,
    usual_reading,
)
from perfusion_core.denoisers import (
    between,
    caption_width,
    denoiser_of,
    projected_captions,
    reads_captions,
)
from perfusion_core.errors import UserError
from perfusion_core.prompts import INITIAL, Positions, Word, encode, named, super_token
from perfusion_core.prompts import token_vector as row_of
from perfusion_core.prompts import tokenize as tokenize_one
from perfusion_core.prompts import unread as unread_by
from perfusion_core.prompts import written as written_one
from perfusion_core.weight_digests import (
    caption_digest,
    caption_shape,
    joint_digest,
    joint_shape,
)

# what files call a learned word's vectors, encoder after encoder: kohya's scripts, ComfyUI, A1111
FILE_KEYS = ("clip_l", "clip_g")
Spell = Callable[[Sequence[str], Any], Sequence[str]]


@dataclass(frozen=True)
class Reader:
    """One text encoder with its tokenizer."""

    part: str  # of the pipeline
    tokenizer: Any
    model: Any

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)


@dataclass(frozen=True)
class Encoded:
    encodings: torch.Tensor  # [n, M, d], with gradient to the words' vectors
    pooled: torch.Tensor | None  # [n, p]; None where the U-Net reads none
    positions: list[Positions]
    mask: torch.Tensor | None = None  # [n, M], 1 where there is text; None where all is read


@dataclass(frozen=True)
class TextEncoders:
    """All that read a prompt, in the order in which their outputs are joined."""

    readers: tuple[Reader, ...]

    @property
    def joint(self) -> bool:
        """Whether there are several, as in Stable Diffusion XL."""
        return len(self.readers) > 1

    @property
    def behind(self) -> bool:
        """Whether cross-attentions read the output behind a projection, as in PixArt and Sana."""
        return False

    @property
    def length(self) -> int:
        """M: how many tokens' encodings the cross-attentions read."""
        return int(self.readers[0].tokenizer.model_max_length)

    @property
    def widths(self) -> list[int]:
        return [reader.width for reader in self.readers]

    @property
    def width(self) -> int:
        """d: of what cross-attentions read."""
        return sum(self.widths)

    def digest(self, vocabulary: int | None = None) -> str:
        return joint_digest([reader.model for reader in self.readers], vocabulary)

    def shape(self, vocabulary: int | None = None) -> str:
        return joint_shape([reader.model for reader in self.readers], vocabulary)

    def words(self, words: Mapping[str, Word]) -> list[dict[str, Word]]:
        """The words as each encoder has them, with its part of their vectors."""
        each: list[dict[str, Word]] = [{} for _ in self.readers]
        for name, word in words.items():
            parts: Sequence[torch.Tensor | None] = [None] * len(self.readers)
            if word.vector is not None:
                parts = word.vector.split(self.widths) if self.joint else [word.vector]
            for own, part in zip(each, parts, strict=True):
                own[name] = replace(word, vector=part)
        return each

    def tokenize(
        self,
        texts: Sequence[str],
        words: Mapping[str, Word],
        spell: Spell = lambda texts, tokenizer: texts,
    ) -> tuple[list[torch.Tensor], list[Positions]]:
        """-> ids [n, M] of each encoder, and where each concept stands, which is the same in all.
        `spell` writes texts out for a tokenizer.
        """
        read = [
            tokenize_one(reader.tokenizer, spell(texts, reader.tokenizer), words)
            for reader in self.readers
        ]
        positions = read[0][1]
        if any(other != positions for _, other in read[1:]):
            raise UserError(
                "the two tokenizers of this pipeline split the prompt differently, so a learned "
                "word has no common place in both; leave out textual inversions that only one of "
                "them knows"
            )
        return [ids for ids, _ in read], positions

    @contextmanager
    def written(self, positions: Sequence[Positions], words: Mapping[str, Word]) -> Iterator[None]:
        """For one call of each text encoder: the concepts' vectors stand at their positions."""
        with ExitStack() as block:
            for reader, own in zip(self.readers, self.words(words), strict=True):
                block.enter_context(written_one(reader.model, positions, own))
            yield

    def encode(self, texts: Sequence[str], words: Mapping[str, Word]) -> Encoded:
        """What the cross-attentions see of texts with {names}, and the pooled text."""
        if not self.joint:
            reader = self.readers[0]
            encodings, positions = encode(reader.model, reader.tokenizer, texts, words)
            return Encoded(encodings, None, positions)
        ids, positions = self.tokenize(texts, words)
        with self.written(positions, words):
            outs = [
                reader.model(own.to(reader.model.device), output_hidden_states=True)
                for reader, own in zip(self.readers, ids, strict=True)
            ]
        encodings = torch.cat([out.hidden_states[-2] for out in outs], dim=-1)
        return Encoded(encodings, outs[-1][0], positions)

    def mask(self, texts: Sequence[str], words: Mapping[str, Word]) -> torch.Tensor | None:
        """[n, M], 1 where there is text; None where cross-attentions read all tokens."""
        return None

    def project(self, encodings: torch.Tensor) -> torch.Tensor:
        """The text encoder's output as cross-attentions read it."""
        return encodings

    def reading(self, negative: bool = False) -> dict[str, Any]:
        """What the pipeline tells its encode_prompt by default, of a prompt or a negative one."""
        return {}

    def unread(self, text: str, negative: bool = False) -> str:
        """The end of a prompt, or of a negative one, that is not read; empty where all of it is."""
        return unread_by(self.readers[0].tokenizer, text)

    def initial_place(self, super_category: str) -> int:
        """Where the word is among the encodings of "A photo of a <super-category>"."""
        words = {"it": Word(super_category)}
        _, [at] = tokenize_one(self.readers[0].tokenizer, [named(INITIAL, "it")], words)
        return at["it"][0]

    @torch.no_grad()
    def super_encoding(self, super_category: str) -> torch.Tensor:
        """The encoding [d] of the word in "A photo of a <super-category>"."""
        found = self.encode([named(INITIAL, "it")], {"it": Word(super_category)})
        return found.encodings[0, found.positions[0]["it"][0]]

    def token_vector(self, super_category: str) -> torch.Tensor:
        """A copy of the word's embedding [d] in float32, to be learned further."""
        return torch.cat(
            [
                row_of(reader.model, super_token(reader.tokenizer, super_category))
                for reader in self.readers
            ]
        )


@dataclass(frozen=True)
class CaptionEncoders(TextEncoders):
    """One text encoder behind a projection; encodings are what comes out of that."""

    pipe: Any = field(kw_only=True, repr=False)

    @property
    def behind(self) -> bool:
        return True

    @property
    def length(self) -> int:
        return usual_reading(self.pipe).length

    @property
    def width(self) -> int:
        return caption_width(denoiser_of(self.pipe))

    def digest(self, vocabulary: int | None = None) -> str:
        modules = between(denoiser_of(self.pipe))
        return caption_digest(self.readers[0].model, modules, vocabulary)

    def shape(self, vocabulary: int | None = None) -> str:
        modules = between(denoiser_of(self.pipe))
        return caption_shape(self.readers[0].model, modules, vocabulary)

    def tokens(self, texts: Sequence[str], words: Mapping[str, Word]) -> Tokens:
        """As the pipeline's call reads them by default, with its instruction."""
        return caption_tokens(self.readers[0].tokenizer, texts, words, usual_reading(self.pipe))

    def mask(self, texts: Sequence[str], words: Mapping[str, Word]) -> torch.Tensor | None:
        found = self.tokens(texts, words)
        return found.kept(found.mask)

    def reading(self, negative: bool = False) -> dict[str, Any]:
        usual = usual_reading(self.pipe)
        told: dict[str, Any] = {"max_sequence_length": usual.length}
        if usual.instruction and not negative:
            told["complex_human_instruction"] = [usual.instruction]
        return told

    def project(self, encodings: torch.Tensor) -> torch.Tensor:
        return projected_captions(denoiser_of(self.pipe), encodings)

    def encode(self, texts: Sequence[str], words: Mapping[str, Word]) -> Encoded:
        model, found = self.readers[0].model, self.tokens(texts, words)
        with self.written(found.positions, words):
            out = model(found.ids.to(model.device), attention_mask=found.mask.to(model.device))[0]
        mask = found.kept(found.mask).to(out.device)
        return Encoded(self.project(found.kept(out)), None, found.places, mask)

    def unread(self, text: str, negative: bool = False) -> str:
        usual = usual_reading(self.pipe)
        reading = Reading(usual.length) if negative else usual
        return unread_caption(self.readers[0].tokenizer, text, reading)

    def initial_place(self, super_category: str) -> int:
        words = {"it": Word(super_category)}
        return self.tokens([named(INITIAL, "it")], words).places[0]["it"][0]

    def token_vector(self, super_category: str) -> torch.Tensor:
        reader = self.readers[0]
        return row_of(reader.model, piece_of(reader.tokenizer, super_category.lower()))


def is_joint(pipe: Any) -> bool:
    """Whether two text encoders feed a U-Net, as in Stable Diffusion XL."""
    return (
        getattr(pipe, "text_encoder_2", None) is not None
        and getattr(pipe, "unet", None) is not None
    )


def text_encoders(pipe: Any) -> TextEncoders:
    """Those that a pipeline has now."""
    tails = ("", "_2") if is_joint(pipe) else ("",)
    readers = tuple(
        Reader(
            f"text_encoder{tail}",
            getattr(pipe, f"tokenizer{tail}"),
            getattr(pipe, f"text_encoder{tail}"),
        )
        for tail in tails
    )
    if reads_captions(denoiser_of(pipe)):
        return CaptionEncoders(readers, pipe=pipe)
    return TextEncoders(readers)
