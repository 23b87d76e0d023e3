"""May these concepts be loaded into this pipeline? In: a pipeline, concepts, settings. Out: the
concepts by name, or one sentence that says what to do instead.
"""

import logging
from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perfusion_core.backbone import cross_attentions
from perfusion_core.caption_prompts import refuse_other_signature
from perfusion_core.concept import ALIKE, Concept
from perfusion_core.denoisers import denoiser_of, reads_captions
from perfusion_core.errors import NotAConcept, UserError, unknown
from perfusion_core.families import why_not_pipe
from perfusion_core.hub_concepts import fetch_concept, is_hub_name
from perfusion_core.perfusion_settings import LOCKS, POOLED
from perfusion_core.rank_one import EditedProjection, weight_of
from perfusion_core.text_encoders import Reader, is_joint, text_encoders

log = logging.getLogger("perfusion_core")
# attention processors that project K and V by other layers than to_k and to_v
PAST = ("Fused", "CustomDiffusion")


def read_concepts(concepts: Mapping[str, Any] | Sequence[Any]) -> dict[str, Concept]:
    """By the name that stands in the prompts: the mapping's, or each concept's own placeholder."""
    if isinstance(concepts, (str, Path, Concept)):
        concepts = [concepts]
    if isinstance(concepts, Mapping):
        return {name: as_concept(given) for name, given in concepts.items()}
    loaded: dict[str, Concept] = {}
    for concept in map(as_concept, concepts):
        if concept.placeholder in loaded:
            raise UserError(
                f"two concepts have the placeholder {concept.placeholder!r}; give them names of "
                f"your own: "
                f'{{"{concept.placeholder}": FILE, "{concept.placeholder}2": FILE}}'
            )
        loaded[concept.placeholder] = concept
    return loaded


def as_concept(given: str | Path | Concept) -> Concept:
    """A concept as it is, of a file, or of the hub."""
    if isinstance(given, Concept):
        return given
    if not is_hub_name(given):
        return Concept.load(given)
    try:
        return Concept.load(fetch_concept(str(given)))
    except NotAConcept as error:
        raise UserError(
            f"{given} on the hub is no concept: its safetensors file is something else; check the "
            f"name"
        ) from error


# ---- the pipeline ----


def refuse_unfit(pipe: Any, lock: str, tokens: bool, pooled: str | None = None) -> None:
    """Parts that a concept needs, and ways of reading prompts that it cannot follow."""
    if lock not in LOCKS:
        raise unknown("lock", lock, LOCKS)
    if pooled is not None and pooled not in POOLED:
        raise unknown("pooled text", pooled, POOLED)
    if sentence := why_not_pipe(pipe):
        raise UserError(sentence)
    if tokens and lock == "global":
        raise UserError(
            'tokens=True makes words that any program may encode, and lock="global" needs a second '
            'prompt beside each; use lock="local", or leave tokens out'
        )
    second = ("text_encoder_2", "tokenizer_2") if hasattr(pipe, "text_encoder_2") else ()
    denoiser = "unet" if hasattr(pipe, "unet") else "transformer"
    for part in (denoiser, "text_encoder", "tokenizer", *second):
        if getattr(pipe, part, None) is None:
            raise UserError(
                f"this {type(pipe).__name__} has no {part}, and a concept is loaded into text "
                f"encoder and U-Net together; give a pipeline with both (inside the block "
                f"pipe.text_encoder may be dropped once the prompts are encoded)"
            )
    if reads_captions(denoiser_of(pipe)):
        refuse_other_signature(pipe)
        if tokens:
            raise UserError(
                f"tokens=True adds words to CLIP's tokenizers, and a {type(pipe).__name__} has "
                f"another one; draw with the pipeline itself, and leave tokens out"
            )
    if not tokens and not hasattr(pipe, "encode_prompt"):
        raise UserError(
            f"a {type(pipe).__name__} encodes prompts in a way of its own (it has no "
            f"encode_prompt), so {{names}} would be drawn as text; pass tokens=True"
        )
    if pooled is not None and not is_joint(pipe):
        raise UserError(
            f"a {type(pipe).__name__} reads no pooled text beside its cross-attentions, so there "
            f"is none to choose; leave pooled out"
        )


def refuse_edited(pipe: Any, layers: Mapping[str, Any]) -> None:
    """Layers that have concepts already, or that would not do what a concept asks of them."""
    if "encode_prompt" in vars(pipe) or any(
        isinstance(layer.to_v, EditedProjection) for layer in layers.values()
    ):
        raise UserError("this pipeline has concepts loaded already; load them all in one call")
    for name, layer in layers.items():
        refuse_past(name, layer)
        for side in (layer.to_k, layer.to_v):
            refuse_side(name, side)


def refuse_past(name: str, layer: Any) -> None:
    if (processor := type(layer.processor).__name__).startswith(PAST):
        raise UserError(
            f"{name} has K and V of its own ({processor}), where a concept would change nothing; "
            f"undo that first: pipe.unfuse_qkv_projections() or "
            f"pipe.unet.set_default_attn_processor()"
        )


def refuse_side(name: str, side: nn.Module) -> None:
    """A concept needs W e of any e: of linear layers, quantised ones, or adapters around one."""
    if not is_linear(side):
        raise UserError(
            f"{name} projects K or V by a {type(side).__name__}, which is not a linear layer; "
            f"take it out before the concepts are loaded"
        )
    weight = weight_of(side)
    if weight is not None and weight.is_meta:
        raise UserError(
            "between calls the pipeline has no weights (enable_sequential_cpu_offload), so no "
            "concept can be put there; call pipe.enable_model_cpu_offload() instead"
        )


def is_linear(side: nn.Module) -> bool:
    """nn.Linear and its quantised kin, which have its sizes; or peft's adapters around one."""
    base = getattr(side, "base_layer", None)
    if isinstance(base, nn.Module):
        return is_linear(base)
    sizes = (getattr(side, name, None) for name in ("in_features", "out_features"))
    return isinstance(side, nn.Linear) or all(isinstance(size, int) for size in sizes)


def refuse_changed(pipe: Any, unet: Any, layers: Mapping[str, Any]) -> None:
    """Inside the block: the layers with the concepts are still those that will be asked."""
    now = denoiser_of(pipe)
    if now is None:
        return
    if now is not unet:
        here = cross_attentions(now).values()
        if [id(layer) for layer in here] != [id(layer) for layer in layers.values()]:
            part = "unet" if hasattr(pipe, "unet") else "transformer"
            raise UserError(
                f"pipe.{part} is another one than the concepts were loaded into, which would draw "
                f"without them; leave the block, and load them into this one"
            )
    for name, layer in layers.items():
        refuse_past(name, layer)
        for side in (layer.to_k, layer.to_v):
            if not isinstance(side, EditedProjection):
                raise UserError(
                    f"inside the block something put a {type(side).__name__} in the place of K or "
                    f"V of {name}, and the concepts with it are gone; do that before load_concepts"
                )


# ---- the concepts ----


def check_concepts(
    pipe: Any, loaded: Mapping[str, Concept], layers: Mapping[str, Any], force: bool
) -> None:
    """Each concept fits this pipeline, and all of them each other."""
    side, sizes = text_encoders(pipe), [layer.to_v.out_features for layer in layers.values()]
    for name, concept in loaded.items():
        own = vocabulary(concept)
        if not (
            all(is_first_of(own, reader) for reader in side.readers)
            and concept.text_shape == side.shape(own)
            and list(concept.names or layers) == list(layers)
            and [len(o) for o in concept.o_v] == sizes
        ):
            raise UserError(
                f"the concept {name!r} was made for another model ({concept.backbone}, text "
                f"encoder "
                f"{concept.text_shape}); "
                f"this pipeline's is {side.shape()} with {len(sizes)} cross-attentions; fit "
                f"it again on this one"
            )
        if concept.text_digest != side.digest(own):
            accept_other(pipe, name, concept, force)
    if len({concept.text_digest for concept in loaded.values()}) > 1:
        raise UserError(
            f"the concepts {', '.join(loaded)} were made for different text encoders and cannot "
            f"be combined; load one of them alone, or fit them again on one model"
        )


def vocabulary(concept: Concept) -> int:
    """How many words the concept's text encoder knew; 0 where its file tells nonsense."""
    told = concept.text_shape.split("x")[0]
    return int(told) if told.isdecimal() else 0


def is_first_of(words: int, reader: Reader) -> bool:
    """Whether the table holds these words, and after them only what was added to the tokenizer
    (textual inversions), or what is left of that.
    """
    rows = len(reader.model.get_input_embeddings().weight)
    added = sum(token >= words for token in reader.tokenizer.added_tokens_decoder)
    return 0 < words <= rows <= words + added


def accept_other(pipe: Any, name: str, concept: Concept, force: bool) -> None:
    """Other weights of the same shape: a fine-tuned checkpoint, as long as it means the same by the
    word.
    """
    here = text_encoders(pipe).super_encoding(concept.super_category).float().cpu()
    cosine = float(torch.cosine_similarity(concept.super_encoding.float().cpu(), here, dim=0))
    sentence = (
        f"the concept {name!r} was made for another text encoder of the same shape; "
        f"its encoding of {concept.super_category!r} and this one's have cosine {cosine:.3f}"
    )
    if cosine < ALIKE and not force:
        raise UserError(f"{sentence}, less than {ALIKE}; fit it again, or pass force=True")
    log.warning(sentence)


def by_name(
    given: float | Mapping[str, float], loaded: Mapping[str, Concept], what: str, default: float
) -> list[float]:
    each = given if isinstance(given, Mapping) else dict.fromkeys(loaded, given)
    for name, value in each.items():
        if name not in loaded:
            raise unknown(f"concept in {what}", name, loaded)
        if (
            not isinstance(value, Real)
            or not isfinite(value)
            or (what == "temperature" and value <= 0)
        ):
            above = " above 0" if what == "temperature" else ""
            raise UserError(
                f"the {what} {value!r} of {name!r} is not a number{above}; leave it out for "
                f"{default}"
            )
    return [float(each.get(name, default)) for name in loaded]
