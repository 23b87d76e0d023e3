"""Prompts as PixArt's and Sana's pipelines read them: texts with {names} in; tokens, a mask and
positions out.

Their tokenizers (T5's, Gemma's) join a word with the space before it to one piece. Sana puts an
instruction before each prompt and drops its encodings again, all but the first token's.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from perfusion_core.errors import UserError
from perfusion_core.prompts import PLACEHOLDER, Positions, Word, fill, several_tokens


@dataclass(frozen=True)
class Reading:
    """How a pipeline reads prompts."""

    length: int  # M, the tokens whose encodings are kept
    instruction: str = ""  # what stands before each prompt


@dataclass(frozen=True)
class Tokens:
    ids: torch.Tensor  # [n, L]: the instruction, where there is one, and the prompt
    mask: torch.Tensor  # [n, L], 1 where there is text
    positions: list[Positions]  # in the ids
    length: int  # M, how many of L are kept

    @property
    def dropped(self) -> int:
        """How many tokens lie between the first and the next that is kept."""
        return self.ids.shape[1] - self.length

    def kept(self, each: torch.Tensor) -> torch.Tensor:
        """Of something [n, L, ...] for each token, what the pipeline keeps [n, M, ...]."""
        if not self.dropped:
            return each
        return torch.cat([each[:, :1], each[:, self.dropped + 1 :]], dim=1)

    @property
    def places(self) -> list[Positions]:
        """The positions among those that are kept."""
        return [
            {name: [m - self.dropped for m in at] for name, at in found.items()}
            for found in self.positions
        ]


def usual_reading(pipe: Any) -> Reading:
    """The one that the pipeline's call has by default; in training, too."""
    told = inspect.signature(type(pipe).__call__).parameters
    instruction = getattr(told.get("complex_human_instruction"), "default", None)
    return Reading(int(told["max_sequence_length"].default), joined(instruction))


def joined(instruction: Sequence[str] | None) -> str:
    """Sana's instruction as it stands before the prompt."""
    return "\n".join(instruction or ())


def lowered(text: str) -> str:
    """A prompt as these pipelines read it, small and without spaces around; its {names} stay."""
    parts, done = [], 0
    for match in PLACEHOLDER.finditer(text):
        parts += [text[done : match.start()].lower(), match[0]]
        done = match.end()
    return "".join([*parts, text[done:].lower()]).strip()


def in_small(words: Mapping[str, Word]) -> dict[str, Word]:
    return {name: Word(word.text.lower(), word.vector) for name, word in words.items()}


def caption_tokens(
    tokenizer: Any, texts: Sequence[str], words: Mapping[str, Word], reading: Reading
) -> Tokens:
    """All of several texts, and where each concept stands; without words a text is taken as it is,
    braces and all.
    """
    small, before = in_small(words), reading.instruction
    for word in small.values():
        piece_of(tokenizer, word.text)
    texts = [lowered(text) for text in texts]
    filled = [fill(text, small) for text in texts] if words else [(text, []) for text in texts]
    batch = read_through(tokenizer, [text for text, _ in filled], reading)
    positions = [
        find_pieces(text, before, spans, offsets)
        for (text, spans), offsets in zip(filled, batch.offset_mapping.tolist(), strict=True)
    ]
    return Tokens(batch.input_ids, batch.attention_mask, positions, reading.length)


def read_through(tokenizer: Any, texts: Sequence[str], reading: Reading) -> Any:
    """The tokenizer's batch of texts behind the instruction, all of one length."""
    before, long = reading.instruction, reading.length
    if before:  # as SanaPipeline counts
        long += len(tokenizer.encode(before)) - 2
    tokenizer.padding_side = "right"
    return tokenizer(
        [before + text for text in texts],
        padding="max_length",
        max_length=long,
        truncation=True,
        return_offsets_mapping=True,
        return_tensors="pt",
    )


def unread_caption(tokenizer: Any, text: str, reading: Reading) -> str:
    """The end of a prompt that is longer than the pipeline reads, in small letters as it would."""
    small, before = lowered(text), reading.instruction
    if len(small.encode()) + 2 <= reading.length:  # at most a token a byte
        return ""
    offsets = read_through(tokenizer, [small], reading).offset_mapping[0].tolist()
    return small[max(end for _, end in offsets) - len(before) :].strip()


def piece_of(tokenizer: Any, word: str) -> int:
    """The one piece of a super-category in the middle of a text: its embedding is where a concept
    starts.
    """
    alone = tokenizer("a", add_special_tokens=False).input_ids
    ids = tokenizer(f"a {word}", add_special_tokens=False).input_ids[len(alone) :]
    if len(ids) != 1:
        raise several_tokens(tokenizer, word, ids)
    if ids[0] == tokenizer.unk_token_id:
        raise UserError(
            f"the super-category {word!r} is unknown to this backbone's tokenizer; choose a more "
            f"common word for it"
        )
    return int(ids[0])


def find_pieces(
    text: str, before: str, spans: Sequence[tuple[str, int, int]], offsets: list[list[int]]
) -> Positions:
    """Where each concept's piece is; it may hold the space before the word, and nothing else."""
    found: Positions = {}
    whole, last = before + text, max((end for _, end in offsets), default=0)
    for name, start, end in spans:
        start, end = len(before) + start, len(before) + end
        hits = [m for m, (a, b) in enumerate(offsets) if a < end and b > start]
        if last < end:
            raise UserError(
                f"{{{name}}} is cut off, the prompt is longer than this pipeline reads: {text!r}"
            )
        glued = whole[start - 1 : start].isalnum() or whole[end : end + 1].isalnum()
        alone = len(hits) == 1 and offsets[hits[0]][1] == end
        if glued or not alone or whole[offsets[hits[0]][0] : start].strip():
            raise UserError(
                f"{{{name}}} has to stand as a word of its own, with a space before it and no "
                f"letter behind it: {text!r}"
            )
        found.setdefault(name, []).append(hits[0])
    return found
