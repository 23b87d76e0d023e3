"""load_concepts: a stock pipeline and concept files in; inside the block, `{teddy}` in a prompt
means the concept.

(a) `encode_prompt` is overridden on the instance; (b) `attn2.to_k/to_v` become modules that hold
the same weight and edit what they project; (c) a module reuses its result for the encodings it saw
last. On exit everything is as it was.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from perfusion_core.backbone import cross_attentions
from perfusion_core.concept import ALIKE, Concept
from perfusion_core.covariance import inverse, lookup_covariance
from perfusion_core.errors import UserError, unknown
from perfusion_core.joint_edit import joint_edit
from perfusion_core.perfusion_settings import BIAS, LOCKS, TEMPERATURE
from perfusion_core.prompts import Word, super_encoding, tokenize, written
from perfusion_core.prompts import super_text as fill_supers
from perfusion_core.rank_one import Edit, EditedProjection, SuperKeys
from perfusion_core.weight_digests import text_digest, text_shape

log = logging.getLogger("perfusion_core")
# attention processors that project K and V by other layers than to_k and to_v
PAST = ("Fused", "CustomDiffusion")


@contextmanager
def load_concepts(
    pipe: Any,
    concepts: Mapping[str, str | Path | Concept] | Sequence[str | Path | Concept],
    lock: str = "local",
    bias: float | Mapping[str, float] = BIAS,
    temperature: float | Mapping[str, float] = TEMPERATURE,
    *,
    c_inv: torch.Tensor | None = None,
    force: bool = False,
) -> Iterator[Any]:
    """Edit `pipe` for the duration of the block: `{teddy}` in a prompt means the concept.

    Args:
        pipe: a stock diffusers pipeline with one text encoder and a U-Net.
        concepts: files or `Concept`s by the names that stand in prompts; a list takes each one's
            own placeholder.
        lock: "local" keeps the super-category's key at the concept's word, "global" in the whole
            prompt.
        bias: where the gate opens, lower is more concept; a number, or one a concept.
        temperature: how sharply the gate opens; a number, or one a concept.
        c_inv: C^-1, where it is known already; otherwise it is looked up by the digest in the
            concept file.
        force: take concepts of another text encoder even where the super-category means something
            else to it.
    """
    if lock not in LOCKS:
        raise unknown("lock", lock, LOCKS)
    loaded = read_concepts(concepts)
    layers = cross_attentions(pipe.unet)
    loaded = {name: concept.arranged(layers) for name, concept in loaded.items()}
    refuse_edited(pipe, layers)
    check_concepts(pipe, loaded, layers, force)
    if not loaded:
        yield pipe
        return
    words = {
        name: Word(concept.super_category, concept.embedding) for name, concept in loaded.items()
    }
    edit = make_edit(
        pipe,
        loaded,
        by_name(bias, loaded, "bias", BIAS),
        by_name(temperature, loaded, "temperature", TEMPERATURE),
        c_inv,
    )
    with restored(layers), narrowed(pipe):
        attach(layers, edit, o_star_k(pipe, loaded, layers), o_star_v(loaded), lock)
        pipe.encode_prompt = encoder(pipe, pipe.encode_prompt, words, lock)
        try:
            yield pipe
        finally:
            vars(pipe).pop("encode_prompt", None)


@contextmanager
def restored(layers: Mapping[str, Any]) -> Iterator[None]:
    """Whatever projects K and V now does so again afterwards."""
    kept = {name: (layer.to_k, layer.to_v) for name, layer in layers.items()}
    try:
        yield
    finally:
        for name, layer in layers.items():
            layer.to_k, layer.to_v = kept[name]


@contextmanager
def narrowed(pipe: Any) -> Iterator[None]:
    """A ControlNet reads the prompt with layers of its own, which are not edited: of a global lock,
    the first half.
    """
    net, width = getattr(pipe, "controlnet", None), pipe.text_encoder.config.hidden_size

    def narrow(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if "encoder_hidden_states" in kwargs:
            return args, {
                **kwargs,
                "encoder_hidden_states": kwargs["encoder_hidden_states"][..., :width],
            }
        return (*args[:2], args[2][..., :width], *args[3:]), kwargs

    handle = net.register_forward_pre_hook(narrow, with_kwargs=True) if net is not None else None
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


def attach(
    layers: Mapping[str, Any],
    edit: Edit,
    o_k: list[torch.Tensor],
    o_v: list[torch.Tensor],
    lock: str = "local",
) -> None:
    keys = EditedProjection if lock == "local" else SuperKeys
    for layer, k, v in zip(layers.values(), o_k, o_v, strict=True):
        layer.to_k, layer.to_v = keys(layer.to_k, edit, k), EditedProjection(layer.to_v, edit, v)


def make_edit(
    pipe: Any,
    loaded: Mapping[str, Concept],
    bias: list[float],
    temperature: list[float],
    c_inv: torch.Tensor | None,
) -> Edit:
    if c_inv is None:
        first = next(iter(loaded.values()))
        c_inv, _ = inverse(
            lookup_covariance(
                first.text_digest, folders(pipe), first.backbone.rsplit(" ", 1)[0]
            ).matrix
        )
    return joint_edit(loaded, bias, temperature, c_inv)


def o_star_k(
    pipe: Any, loaded: Mapping[str, Concept], layers: Mapping[str, Any]
) -> list[torch.Tensor]:
    """[J, d_out] of every layer: W_K e_super of this pipeline, or what was learned where K was
    trained.
    """
    supers = torch.stack(
        [
            super_encoding(pipe.text_encoder, pipe.tokenizer, c.super_category).float()
            for c in loaded.values()
        ]
    )
    result = []
    for number, layer in enumerate(layers.values()):
        o = linear(supers.to(layer.to_k.weight.device), layer.to_k.weight.detach().float())
        for j, concept in enumerate(loaded.values()):
            if concept.o_k is not None:
                o[j] = concept.o_k[number].to(o)
        result.append(o)
    return result


def o_star_v(loaded: Mapping[str, Concept]) -> list[torch.Tensor]:
    return [
        torch.stack(layer)
        for layer in zip(*(concept.o_v for concept in loaded.values()), strict=True)
    ]


def encoder(
    pipe: Any, original: Callable[..., Any], words: Mapping[str, Word], lock: str
) -> Callable[..., Any]:
    """The pipeline's encode_prompt for prompts with {names}, in the same signature."""

    # textual inversions of several tokens are written out before anything is counted; few pipelines
    # have none
    spell_out = getattr(pipe, "maybe_convert_prompt", lambda texts, tokenizer: texts)

    def once(texts: list[str], device: Any, lora_scale: float | None) -> torch.Tensor:
        _, positions = tokenize(pipe.tokenizer, spell_out(texts, pipe.tokenizer), words)
        supers = [fill_supers(text, words) for text in texts]
        with written(pipe.text_encoder, positions, words):
            encodings = original(supers, device, 1, False, lora_scale=lora_scale)[0]
        if lock == "local":
            return encodings
        return torch.cat(
            [encodings, original(supers, device, 1, False, lora_scale=lora_scale)[0]], dim=-1
        )

    def encode_prompt(
        prompt: str | list[str] | None,
        device: Any,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | list[str] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        lora_scale: float | None = None,
        clip_skip: int | None = None,
    ) -> Any:
        if clip_skip:
            raise UserError(
                "clip_skip reads another output of the text encoder than the concepts were made "
                "for; leave it out"
            )
        if lock == "global" and (prompt_embeds is not None or negative_prompt_embeds is not None):
            raise UserError(
                'lock="global" needs the prompt itself, not prompt_embeds; give prompt="..." or '
                'use lock="local"'
            )
        if prompt_embeds is None:
            prompt_embeds = once(
                [prompt] if isinstance(prompt, str) else list(prompt or []), device, lora_scale
            )
        if do_classifier_free_guidance and negative_prompt_embeds is None:
            many = len(prompt_embeds)
            against = (
                negative_prompt
                if isinstance(negative_prompt, list)
                else [negative_prompt or ""] * many
            )
            if len(against) != many:
                raise UserError(
                    f"{many} prompts need one negative prompt or as many, not {len(against)}"
                )
            negative_prompt_embeds = once(against, device, lora_scale)
        given = {
            "prompt_embeds": prompt_embeds,
            "negative_prompt_embeds": negative_prompt_embeds,
            "lora_scale": lora_scale,
        }
        return original(None, device, num_images_per_prompt, do_classifier_free_guidance, **given)

    return encode_prompt


# What is refused


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
    return given if isinstance(given, Concept) else Concept.load(given)


def refuse_edited(pipe: Any, layers: Mapping[str, Any]) -> None:
    if "encode_prompt" in vars(pipe) or any(
        isinstance(layer.to_v, EditedProjection) for layer in layers.values()
    ):
        raise UserError("this pipeline has concepts loaded already; load them all in one call")
    for name, layer in layers.items():
        if type(layer.to_k) is not nn.Linear or type(layer.to_v) is not nn.Linear:
            raise UserError(
                f"{name} has an adapter on K or V ({type(layer.to_v).__name__}); fuse or unload "
                f"it first"
            )
        if (processor := type(layer.processor).__name__).startswith(PAST):
            raise UserError(
                f"{name} has K and V of its own ({processor}), where a concept would change "
                f"nothing; "
                "undo that first: pipe.unfuse_qkv_projections() or "
                "pipe.unet.set_default_attn_processor()"
            )
        if layer.to_v.weight.is_meta:
            raise UserError(
                "between calls the pipeline has no weights (enable_sequential_cpu_offload), so no "
                "concept can be put "
                "there; call pipe.enable_model_cpu_offload() instead"
            )


def check_concepts(
    pipe: Any, loaded: Mapping[str, Concept], layers: Mapping[str, Any], force: bool
) -> None:
    """Each concept fits this pipeline, and all of them each other."""
    shape, sizes = (
        text_shape(pipe.text_encoder),
        [layer.to_v.out_features for layer in layers.values()],
    )
    digest = text_digest(pipe.text_encoder) if loaded else ""
    for name, concept in loaded.items():
        others = concept.names and list(concept.names) != list(layers)
        if concept.text_shape != shape or others or [len(o) for o in concept.o_v] != sizes:
            raise UserError(
                f"the concept {name!r} was made for another model ({concept.backbone}, text "
                f"encoder "
                f"{concept.text_shape}); "
                f"this pipeline's is {shape} with {len(sizes)} cross-attentions; fit it again on "
                f"this one"
            )
        if concept.text_digest != digest:
            accept_other(pipe, name, concept, force)
    if len({concept.text_digest for concept in loaded.values()}) > 1:
        raise UserError(
            f"the concepts {', '.join(loaded)} were made for different text encoders and cannot "
            f"be combined"
        )


def accept_other(pipe: Any, name: str, concept: Concept, force: bool) -> None:
    """Other weights of the same shape: a fine-tuned checkpoint, as long as it means the same by the
    word.
    """
    here = super_encoding(pipe.text_encoder, pipe.tokenizer, concept.super_category).float().cpu()
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


def folders(pipe: Any) -> list[Path]:
    """Where the pipeline came from, if that is a folder."""
    source = getattr(pipe, "name_or_path", None) or ""
    return [Path(source)] if source and Path(source).is_dir() else []
