"""A prompt's concepts in ComfyUI's tokens: a CLIP and concepts in, a CLIP that knows {names} out.

No token is added: {name} becomes its super-category, and the vector stands where that token stood,
as ComfyUI's own `embedding:` does it. Weights such as ({name}:1.2) and long prompts stay
ComfyUI's.
"""

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import torch

from perfusion_core.concept import ALIKE, Concept
from perfusion_core.errors import UserError
from perfusion_core.prompts import INITIAL, PLACEHOLDER, Word, fill, named
from perfusion_core.weight_digests import text_digest, text_shape

log = logging.getLogger("perfusion_core")
Tokens = dict[str, list[list[tuple[Any, ...]]]]  # of an encoder: sections of (token, weight)
Tokenize = Callable[..., Tokens]
Places = list[tuple[int, int]]  # section, position
KEYS = "perfusion_keys"  # among the tokens: the prompt that a global lock takes keys from
ENCODERS = ("clip_l", "clip_h")  # of Stable Diffusion 1.x and 2.x


@dataclass(frozen=True, eq=False)
class Loaded:
    """A concept as one node has it; equal is what the same node gave."""

    concept: Concept
    bias: float
    temperature: float
    lock: str
    e_super: torch.Tensor  # [d]

    def word(self, written: bool = True) -> Word:
        return Word(self.concept.super_category, self.concept.embedding if written else None)


@dataclass(frozen=True)
class Chain:
    """The concepts of the nodes so far, and the tokenizer and text encoder before the first."""

    loaded: Mapping[str, Loaded]
    tokenizer: Any
    stage: Any


# Tokens


def write(tokenize: Tokenize, text: str, words: Mapping[str, Word], **how: Any) -> Tokens:
    """The tokens of a text with {names}: vectors where these stand."""
    tokens, places = find(tokenize, text, words, **how)
    (encoder,) = tokens
    sections = [list(section) for section in tokens[encoder]]
    for (row, m), (name, _, _) in zip(places, fill(text, words)[1], strict=True):
        if (vector := words[name].vector) is not None:
            sections[row][m] = (vector, *sections[row][m][1:])
    return {encoder: sections}


def find(
    tokenize: Tokenize, text: str, words: Mapping[str, Word], **how: Any
) -> tuple[Tokens, Places]:
    """The tokens of the text filled with super-categories, and where these are: those that change
    where other words take their places.
    """
    filled, spans = fill(text, words)
    tokens = tokenize(filled, **how)
    if not spans:
        return tokens, []
    others = {name: Word("dog" if word.text == "cat" else "cat") for name, word in words.items()}
    here, there = ids(tokens), ids(tokenize(fill(text, others)[0], **how))
    lengths = [[len(section) for section in one] for one in (here, there)]
    places = [
        (row, m)
        for row, pair in enumerate(zip(here, there))
        for m, (token, other) in enumerate(zip(*pair))
        if token != other
    ]
    wanted = [one_token(tokenize, words[name].text) for name, _, _ in spans]
    glued = any(filled[start - 1 : start].isalnum() for _, start, _ in spans)
    if glued or lengths[0] != lengths[1] or [here[row][m] for row, m in places] != wanted:
        names = ", ".join(f"{{{name}}}" for name, _, _ in spans)
        raise UserError(
            f"{names} in a prompt has to stand as a word of its own, with spaces or punctuation "
            f"around it: {text!r}"
        )
    return tokens, places


def ids(tokens: Tokens) -> list[list[int]]:
    """Of each section; -1 for an embedding."""
    (sections,) = tokens.values()
    return [[-1 if torch.is_tensor(t[0]) else int(t[0]) for t in section] for section in sections]


def one_token(tokenize: Tokenize, word: str) -> int:
    (empty, *_), (found, *_) = ids(tokenize("")), ids(tokenize(word))
    if found[1] == empty[1] or found[2] != empty[1]:  # start, the word, end
        raise UserError(f"the super-category {word!r} is not one token to this CLIP; fit it again")
    return found[1]


# The CLIP


def chain_of(clip: Any) -> Chain:
    found = getattr(clip.tokenizer, "perfusion", None)
    return found or Chain({}, clip.tokenizer, clip.cond_stage_model)


def with_concepts(clip: Any, chain: Chain) -> Any:
    """A CLIP for ComfyUI's own text nodes, of which other nodes may make clones."""
    loaded = chain.loaded
    words = {name: one.word() for name, one in loaded.items()}
    of_keys = {name: one.word(one.lock == "local") for name, one in loaded.items()}
    joined = any(one.lock == "global" for one in loaded.values())
    plain = chain.tokenizer.tokenize_with_weights

    def tokenize(text: str, *args: Any, **how: Any) -> Any:
        many = ("return_word_ids", "tokenizer_options")
        how |= dict(zip(many, args))
        tokens: Any = write(plain, text, words, **how)
        return tokens | {KEYS: write(plain, text, of_keys, **how)} if joined else tokens

    def encode(tokens: Any) -> Any:
        refuse_other_layer(encoder_of(chain.stage))
        values, pooled, *more = chain.stage.encode_token_weights(tokens)
        if KEYS not in tokens:
            return (values, pooled, *more)
        keys = chain.stage.encode_token_weights(tokens[KEYS])[0]
        # a ControlNet has keys and values of its own, which are not edited
        extra = {**(more[0] if more else {}), "cross_attn_controlnet": values}
        return torch.cat([values, keys], dim=-1), pooled, extra

    new = clip.clone()
    new.tokenizer, new.cond_stage_model = copy.copy(chain.tokenizer), copy.copy(chain.stage)
    new.tokenizer.tokenize_with_weights, new.tokenizer.perfusion = tokenize, chain
    new.cond_stage_model.encode_token_weights = encode
    return new


@torch.no_grad()
def super_encoding(clip: Any, tokenize: Tokenize, super_category: str) -> torch.Tensor:
    """[d], as `prompts.super_encoding` has it of transformers' encoder."""
    text, words = named(INITIAL, "it"), {"it": Word(super_category)}
    tokens, ((_, m),) = find(tokenize, text, words)
    return clip.encode_from_tokens(tokens)[0, m].float().cpu()


# Whether a concept is of this text encoder


class PlainWeights:
    """ComfyUI's text encoder as `text_digest` reads transformers': names, without anybody's
    patches, and only the layers that are used.
    """

    def __init__(self, clip: Any, encoder: str, layers: int) -> None:
        start = f"{encoder}.transformer.text_model."
        beyond = tuple(f"encoder.layers.{n}." for n in range(layers, layers + 100))
        found = clip.patcher.get_key_patches(start)
        self.weights = {
            name: patches[0][0]
            for key, patches in found.items()
            if not (name := key.removeprefix(start)).startswith(beyond)
        }
        size = self.weights["embeddings.token_embedding.weight"].shape
        self.config = SimpleNamespace(
            vocab_size=size[0], hidden_size=size[1], num_hidden_layers=layers
        )

    def named_parameters(self) -> list[tuple[str, torch.Tensor]]:
        # eight bits a number have signs, too, but not every function
        return [(n, w.float() if w.element_size() == 1 else w) for n, w in self.weights.items()]

    def get_input_embeddings(self) -> SimpleNamespace:
        return SimpleNamespace(weight=self.weights["embeddings.token_embedding.weight"])


_known: WeakKeyDictionary[Any, tuple[str, str]] = WeakKeyDictionary()


def shape_and_digest(clip: Any) -> tuple[str, str]:
    """What a concept file tells of its text encoder, of this one; ("", "") of other kinds."""
    stage = chain_of(clip).stage
    model = encoder_of(stage)
    if model is None:
        return "", ""
    if model not in _known:
        weights = PlainWeights(clip, stage.clip, usual_layer(model) % model.num_layers + 1)
        _known[model] = text_shape(weights), text_digest(weights)
    return _known[model]


def encoder_of(stage: Any) -> Any:
    """The one text encoder of Stable Diffusion 1.x and 2.x; None of other models."""
    name = getattr(stage, "clip", None)
    return getattr(stage, name, None) if name in ENCODERS else None


def usual_layer(model: Any) -> int:
    """The layer whose output this kind of model reads; -1 is the last."""
    kind, number, _ = model.options_default
    return -1 if kind == "last" else number


def refuse_other_layer(model: Any) -> None:
    if model.layer == "hidden" and model.layer_idx != usual_layer(model):
        raise UserError(
            "CLIP Set Last Layer reads another output of the text encoder than the concepts were "
            "made for; take that node out"
        )


def check_kind(clip: Any, name: str, concept: Concept) -> None:
    """Before the text encoder is asked for anything."""
    shape, _ = shape_and_digest(clip)
    if concept.text_shape != shape:
        raise UserError(
            f"the concept {name!r} was made for another kind of model ({concept.backbone}, text "
            f"encoder {concept.text_shape}); this CLIP is {shape or type(clip.tokenizer).__name__}"
        )


def check_text(clip: Any, name: str, concept: Concept, here: torch.Tensor, force: bool) -> None:
    """Other weights are taken as `load_concepts` takes them; here: [d], the super-category's
    encoding.
    """
    if concept.text_digest == shape_and_digest(clip)[1]:
        return
    cosine = float(torch.cosine_similarity(concept.super_encoding.float(), here, dim=0))
    sentence = (
        f"the concept {name!r} was made for another text encoder of the same shape; its encoding "
        f"of {concept.super_category!r} and this one's have cosine {cosine:.3f}"
    )
    if cosine < ALIKE and not force:
        raise UserError(f"{sentence}, less than {ALIKE}; fit it again, or switch on force")
    log.warning(sentence)


def extended(chain: Chain, name: str, one: Loaded) -> Chain:
    """The chain with one more concept, which has to go with the others."""
    if name in chain.loaded:
        raise UserError(
            f"two concepts have the name {name!r}; type another one into `name` of one node"
        )
    digests = {other.concept.text_digest for other in (*chain.loaded.values(), one)}
    if len(digests) > 1:
        raise UserError(
            f"the concepts {', '.join([*chain.loaded, name])} were made for different text "
            f"encoders and cannot be combined; load one of them alone, or fit them again"
        )
    return replace(chain, loaded={**chain.loaded, name: one})


def refuse_names(text: str, known: Mapping[str, Any]) -> None:
    """A {name} that would be drawn with its braces, because no concept is on this CLIP."""
    if not known and (found := PLACEHOLDER.search(text)):
        raise UserError(
            f"{found[0]} is a concept, and this CLIP has none; connect the CLIP of a node that "
            f"loads one"
        )
