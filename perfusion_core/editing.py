"""load_concepts: a stock pipeline and concept files in; inside the block, `{teddy}` in a prompt
means the concept.

(a) `encode_prompt` is overridden on the instance; (b) before `attn2.to_k/to_v` stand modules that
ask them and edit what they project; (c) a module reuses its result for the encodings it saw last.
On exit everything is as it was.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from perfusion_core.admission import (
    by_name,
    check_concepts,
    read_concepts,
    refuse_changed,
    refuse_edited,
    refuse_unfit,
)
from perfusion_core.backbone import cross_attentions
from perfusion_core.caption_prompts import beside_at_layers, caption_encoder
from perfusion_core.concept import Concept
from perfusion_core.covariance import inverse, lookup_covariance
from perfusion_core.denoisers import denoiser_of
from perfusion_core.errors import UserError
from perfusion_core.joint_edit import joint_edit
from perfusion_core.joint_prompts import joint_encoder
from perfusion_core.other_doors import as_tokens, behind, keys_kept, no_literal, uncompiled
from perfusion_core.perfusion_settings import BIAS, TEMPERATURE
from perfusion_core.prompts import Word, listed, negatives, refuse_encoded, tokenize, written
from perfusion_core.prompts import super_text as fill_supers
from perfusion_core.rank_one import (
    Edit,
    EditedProjection,
    LockedKeys,
    SuperKeys,
    response,
)
from perfusion_core.text_encoders import is_joint, text_encoders


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
    tokens: bool = False,
    pooled: str | None = None,
) -> Iterator[Any]:
    """Edit `pipe` for the duration of the block: `{teddy}` in a prompt means the concept.

    Args:
        pipe: a stock diffusers pipeline of Stable Diffusion 1.x, 2.x or XL, of PixArt or Sana.
        concepts: files, names on the hub (`owner/name`, `owner/name@revision`) or `Concept`s by
            the names that stand in prompts; a list takes each one's own placeholder.
        lock: "local" keeps the super-category's key at the concept's word, "global" in the whole
            prompt.
        bias: where the gate opens, lower is more concept; a number, or one a concept.
        temperature: how sharply the gate opens; a number, or one a concept.
        c_inv: C^-1, where it is known already; otherwise it is looked up by the digest in the
            concept file.
        force: take concepts of another text encoder even where the super-category means something
            else to it.
        tokens: make the words ordinary tokens as well, for programs that encode prompts by the
            tokenizer and the text encoder themselves.
        pooled: Stable Diffusion XL only: "super" pools the super-category's prompt, "concept" the
            concept's own; None: as each concept was trained.
    """
    refuse_unfit(pipe, lock, tokens, pooled)
    loaded, unet = read_concepts(concepts), denoiser_of(pipe)
    layers = cross_attentions(unet)
    loaded = {name: concept.arranged(layers) for name, concept in loaded.items()}
    refuse_edited(pipe, layers)
    with ExitStack() as block:
        block.enter_context(uncompiled(pipe))
        check_concepts(pipe, loaded, layers, force)
        if not loaded:
            yield pipe
            return
        words = {
            name: Word(concept.super_category, concept.embedding)
            for name, concept in loaded.items()
        }
        edit = make_edit(
            pipe,
            loaded,
            by_name(bias, loaded, "bias", BIAS),
            by_name(temperature, loaded, "temperature", TEMPERATURE),
            c_inv,
        )
        e_super = super_encodings(pipe, loaded)
        trained = torch.tensor([[concept.o_k is not None] for concept in loaded.values()])
        keys = (
            SuperKeys if lock == "global" else partial(LockedKeys, e_super=e_super, trained=trained)
        )
        still = partial(refuse_changed, pipe, unet, layers)
        for guard in (restored(layers), narrowed(pipe, lock), behind(unet, layers)):
            block.enter_context(guard)
        if lock == "global" and text_encoders(pipe).behind:
            block.enter_context(beside_at_layers(layers))
        attach(layers, edit, o_star_k(e_super, loaded, layers), o_star_v(loaded), keys)
        block.enter_context(no_literal(pipe, words, still))
        if tokens:
            block.enter_context(as_tokens(pipe, words))
        if hasattr(pipe, "encode_prompt"):
            keep = keys_kept(pipe, words, layers, e_super)
            own = [name for name, one in loaded.items() if (pooled or one.pooled) == "concept"]
            pipe.encode_prompt = encoder(pipe, pipe.encode_prompt, words, lock, still, keep, own)
            block.callback(vars(pipe).pop, "encode_prompt", None)
        yield pipe


@contextmanager
def restored(layers: Mapping[str, Any]) -> Iterator[None]:
    """Whatever projects K and V now does so again afterwards.

    Of an edit that stands there then the plain module stays: adapters may have come or gone behind
    it.
    """
    kept = {name: (layer.to_k, layer.to_v) for name, layer in layers.items()}
    try:
        yield
    finally:
        for name, layer in layers.items():
            layer.to_k, layer.to_v = (
                side.plain if isinstance(side, EditedProjection) else before
                for side, before in zip((layer.to_k, layer.to_v), kept[name])
            )


@contextmanager
def narrowed(pipe: Any, lock: str) -> Iterator[None]:
    """A ControlNet reads the prompt with layers of its own, which are not edited: of a global lock,
    the first half.
    """
    net, side = getattr(pipe, "controlnet", None), text_encoders(pipe)
    width, captions = side.width, side.behind
    del side  # the text encoder may be dropped inside the block

    def first(encodings: torch.Tensor) -> torch.Tensor:
        if not captions:
            return encodings[..., :width]
        return encodings.chunk(2, dim=1)[0] if lock == "global" else encodings

    def narrow(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if "encoder_hidden_states" in kwargs:
            return args, {
                **kwargs,
                "encoder_hidden_states": first(kwargs["encoder_hidden_states"]),
            }
        return (*args[:2], first(args[2]), *args[3:]), kwargs

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
    keys: Callable[..., EditedProjection] = EditedProjection,
) -> None:
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


def super_encodings(pipe: Any, loaded: Mapping[str, Concept]) -> torch.Tensor:
    """[J, d]: where each concept's key is kept."""
    side = text_encoders(pipe)
    return torch.stack([side.super_encoding(c.super_category).float() for c in loaded.values()])


@torch.no_grad()
def o_star_k(
    e_super: torch.Tensor, loaded: Mapping[str, Concept], layers: Mapping[str, Any]
) -> list[torch.Tensor]:
    """[J, d_out] of every layer: W_K e_super of this pipeline, or what was learned where K was
    trained.
    """
    result = []
    for number, layer in enumerate(layers.values()):
        o = response(layer.to_k, e_super)
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
    pipe: Any,
    original: Callable[..., Any],
    words: Mapping[str, Word],
    lock: str,
    check: Callable[[], None] = lambda: None,
    keep: Callable[[Callable[[str], torch.Tensor]], None] = lambda encode: None,
    own_pooled: Sequence[str] = (),
) -> Callable[..., Any]:
    """The pipeline's encode_prompt for prompts with {names}, in the same signature; `check` refuses
    what happened to the pipeline meanwhile, `keep` moves keys after its text encoder.
    """
    if is_joint(pipe):
        return joint_encoder(pipe, original, words, lock, check, keep, own_pooled)
    if text_encoders(pipe).behind:
        return caption_encoder(pipe, original, words, lock, check, keep)

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
        check()
        if clip_skip:
            raise UserError(
                "clip_skip reads another output of the text encoder than the concepts were made "
                "for; leave it out"
            )
        refuse_encoded(lock, prompt_embeds, negative_prompt_embeds)
        if prompt_embeds is None:
            keep(lambda text: original(text, device, 1, False, lora_scale=lora_scale)[0][0])
            prompt_embeds = once(listed(prompt), device, lora_scale)
        if do_classifier_free_guidance and negative_prompt_embeds is None:
            against = negatives(negative_prompt, len(prompt_embeds))
            negative_prompt_embeds = once(against, device, lora_scale)
        given = {
            "prompt_embeds": prompt_embeds,
            "negative_prompt_embeds": negative_prompt_embeds,
            "lora_scale": lora_scale,
        }
        return original(None, device, num_images_per_prompt, do_classifier_free_guidance, **given)

    return encode_prompt


def folders(pipe: Any) -> list[Path]:
    """Where the pipeline came from, if that is a folder."""
    source = getattr(pipe, "name_or_path", None) or ""
    return [Path(source)] if source and Path(source).is_dir() else []
