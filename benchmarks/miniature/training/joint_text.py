"""The second text encoder of miniature-xl, and both read as XL's pipeline reads them.

In: a workshop; the first text encoder, from finished weights. Out: the stage `text-xl` on disk; the
encoder, averaged and frozen; `Readers`, penultimate outputs side by side with the pooled text.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.miniature.training import networks
from benchmarks.miniature.training.stage import Stage
from benchmarks.miniature.training.text_encoder import Read, is_text, matching
from benchmarks.miniature.training.workshop import Workshop

SEED = 11
NAME = "text-xl"


def second_modules(shop: Workshop) -> dict[str, Any]:
    """The encoder, and what only training needs: a network that looks at pictures, and a head. The
    projection is the encoder's own.
    """
    from open_clip.model import ModifiedResNet

    shop.seed(SEED)
    width = networks.SECOND_WIDTH
    text: Any = networks.make_second_text_encoder(shop.tokenizer)
    return {
        "text": text.to(shop.device),
        "look": ModifiedResNet([1, 1, 1, 1], width, 16, 64, 16).to(
            shop.device, memory_format=shop.layout
        ),
        "own": torch.nn.Linear(width, len(shop.tokenizer)).to(shop.device),
    }


def train_second_text_encoder(shop: Workshop, minutes: float) -> None:
    """The first one's losses; words are kept apart where they are read, at the penultimate output,
    and the projected end token is what matches pictures.
    """
    m = second_modules(shop)
    stage = Stage(m, shop.file(NAME), lr=shop.recipe.text_lr)
    m["look"].train()
    reader = shop.compiled(m["text"])

    def read(ids: torch.Tensor) -> Read:
        out = reader(second_ids(ids, shop.tokenizer), output_hidden_states=True)
        return out.text_embeds, out.hidden_states[-2]

    shop.loop(stage, NAME, minutes, matching(shop, read, m["look"], m["own"]))


def trained_second_text_encoder(shop: Workshop) -> Any:
    """The trained second text encoder, averaged, frozen."""
    m = second_modules(shop)
    shop.average(NAME, m)
    return m["text"].eval().requires_grad_(False)


def first_text_encoder(shop: Workshop, weights: Path) -> Any:
    """The first one, which is the miniature's own, frozen."""
    text: Any = CLIPTextModel.from_pretrained(weights / "text_encoder", dtype=torch.float32)
    return text.to(shop.device).eval().requires_grad_(False)


def second_tokenizer(folder: Path) -> CLIPTokenizer:
    """The first one's words; it pads as XL's second does."""
    return CLIPTokenizer.from_pretrained(folder, pad_token=networks.SECOND_PAD)


def second_ids(ids: torch.Tensor, tokenizer: CLIPTokenizer) -> torch.Tensor:
    """What the second tokenizer makes of texts whose ids the first one told."""
    pad = tokenizer.get_vocab()[networks.SECOND_PAD]
    return ids.masked_fill(~is_text(ids, tokenizer), pad)


class Readers:
    """Both text encoders. Ids of the first tokenizer -> encodings [n, M, d], pooled text [n, p]."""

    def __init__(self, shop: Workshop, first: Any, second: Any) -> None:
        self.tokenizer = shop.tokenizer
        self.first, self.second = shop.compiled(first), shop.compiled(second)

    def __call__(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        one = self.first(ids, output_hidden_states=True)
        other = self.second(second_ids(ids, self.tokenizer), output_hidden_states=True)
        read = torch.cat([one.hidden_states[-2], other.hidden_states[-2]], dim=-1)
        return read, other.text_embeds
