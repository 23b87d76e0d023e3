"""Open a Stable-Diffusion-shaped checkpoint: a name, a folder, a hub id or a single file in, a
Backbone out.

Text encoders stay in float32 (C^-1 magnifies their rounding, and they run once a prompt); U-Net and
VAE take `dtype`. A backbone of Stable Diffusion XL's kind has two of them: `text` joins them. One
of PixArt's or Sana's kind has a transformer for a U-Net, and `text` is behind its projection.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch.nn.functional import group_norm

from perfusion_core.captioned_folder import load_captioned
from perfusion_core.denoisers import denoiser_of, reads_captions, told_beside
from perfusion_core.errors import MissingCovariance, UserError, unknown
from perfusion_core.families import index_of, why_not_folder
from perfusion_core.hardware import fast_dtype_name
from perfusion_core.hub import check_channels
from perfusion_core.noise_levels import flow_shift, is_flow
from perfusion_core.other_vae import dtype_of, open_vae
from perfusion_core.places import COVARIANCE, locate, locate_vae, variant_of
from perfusion_core.single_file import open_single_file
from perfusion_core.text_encoders import TextEncoders, is_joint, text_encoders
from perfusion_core.weight_digests import backbone_digest

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Backbone:
    """A checkpoint in memory. Only what `pipe` holds may be changed by a method, and only for a
    while.
    """

    name: str  # what a person calls it; never a machine path
    place: Path  # folder in diffusers layout, or one .safetensors file
    revision: str | None
    pipe: Any = field(repr=False)  # of Stable Diffusion 1.x, 2.x or XL, of PixArt or Sana
    device: torch.device
    dtype: torch.dtype

    @staticmethod
    def open(
        where: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        revision: str | None = None,
        names: Mapping[str, Path] | None = None,
        vae: str | Path | None = None,
    ) -> "Backbone":
        """`names` are the short names that mean a folder: {"miniature": Path(...)}; the harness
        hands them in. `vae` stands in for the checkpoint's own: a folder, a hub id, or `fp16-fix`.
        """
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        kind = as_dtype(dtype) if dtype else fast_dtype(device)
        name, place, revision = locate(str(where), revision, names or {})
        pipe = load_pipeline(place, kind)
        check_shape(pipe, name)
        if vae:
            pipe.vae = open_vae(locate_vae(str(vae))[1], pipe.vae, kind)
        pipe.to(device)
        pipe.set_progress_bar_config(disable=True)
        lay_out(denoiser_of(pipe), device)
        lay_out(pipe.vae, device)
        readers = [reader.model for reader in text_encoders(pipe).readers]
        for model in (denoiser_of(pipe), pipe.vae, *readers):
            model.requires_grad_(False).eval()
        return Backbone(name, place, revision, pipe, device, kind)

    @property
    def unet(self) -> Any:
        """What takes the noise away; of PixArt and Sana the transformer."""
        return denoiser_of(self.pipe)

    @property
    def vae(self) -> Any:
        return self.pipe.vae

    @property
    def text(self) -> TextEncoders:
        """All text encoders, whose outputs are read side by side."""
        return text_encoders(self.pipe)

    @property
    def text_encoder(self) -> Any:
        """The only one; who asks for it would miss what a second one reads."""
        if is_joint(self.pipe):
            raise UserError(
                f"the backbone {self.name!r} has two text encoders, like Stable Diffusion XL, and "
                f"what was asked for reads one; leave it out there, or give a backbone of 1.x or "
                f"2.x"
            )
        if self.text.behind:
            raise UserError(
                f"the backbone {self.name!r} reads its text encoder behind a projection, like "
                f"PixArt and Sana, and what was asked for reads CLIP's output as it is; use the "
                f"method perfusion, or a backbone of 1.x or 2.x"
            )
        return self.pipe.text_encoder

    @property
    def tokenizer(self) -> Any:
        return self.pipe.tokenizer

    @cached_property
    def digest(self) -> str:
        return backbone_digest(self.place)

    @cached_property
    def text_digest(self) -> str:
        return self.text.digest()

    @cached_property
    def c_inv(self) -> torch.Tensor:
        """C^-1 of the text encoder, float64 [d, d] on the device; MissingCovariance where there is
        none.
        """
        from perfusion_core.covariance import inverse, lookup_covariance, read_covariance

        given = self.name if self.revision else str(self.place)  # by which it is opened again
        beside = self.place / COVARIANCE  # what keys of fits and images count on, where it is there
        if beside.is_file() and read_covariance(beside).digest != self.text_digest:
            raise MissingCovariance(f"{beside} belongs to another text encoder; remove it", given)
        return inverse(lookup_covariance(self.text_digest, [self.place], given).matrix)[0].to(
            self.device
        )

    @property
    def size(self) -> int:
        """Height and width in pixels."""
        return int(self.unet.config.sample_size) * self.down

    @property
    def down(self) -> int:
        """Pixels to a latent, along one side."""
        config = self.vae.config
        levels = config.get("encoder_block_out_channels") or config.block_out_channels
        return 2 ** (len(levels) - 1)

    def scheduler(self) -> Any:
        """DDIM as the protocol has it, with this checkpoint's betas and kind of prediction; where
        it was trained by flow matching, Euler's method, which DDIM is there.
        """
        told = self.pipe.scheduler
        if is_flow(told):
            steps = int(told.config.num_train_timesteps)
            return FlowMatchEulerDiscreteScheduler(steps, shift=flow_shift(told))
        return DDIMScheduler.from_config(
            self.pipe.scheduler.config,
            timestep_spacing="leading",
            steps_offset=1,
            set_alpha_to_one=False,
            clip_sample=False,
            thresholding=False,
            rescale_betas_zero_snr=False,
        )

    @torch.no_grad()
    def encode(self, texts: list[str]) -> torch.Tensor:
        """Encodings of plain texts as the U-Net sees them, float32 [n, M, d]."""
        if self.text.joint or self.text.behind:
            return self.text.encode(texts, {}).encodings
        ids = self.tokenizer(
            texts,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return self.text_encoder(ids.to(self.device))[0]

    def added(
        self,
        pooled: torch.Tensor | None,
        size: tuple[int, int] | None = None,
        mask: torch.Tensor | None = None,
        sizes: torch.Tensor | None = None,
    ) -> Any:
        """What the U-Net is told beside encodings: of a text's pooled vectors [n, p] where it reads
        such, and of the size in pixels, as if the picture had never been cut or scaled. `sizes`
        [n, 6] instead: of each picture the original's height and width, where it was cut, and what
        is shown. A transformer: which tokens are text, by `mask` [n, M].
        """
        if mask is not None:
            return told_beside(self.unet, mask, size or (self.size, self.size))
        if pooled is None:
            return {}
        told = self.whole(1, size) if sizes is None else sizes
        time_ids = told.expand(len(pooled), -1).to(pooled.device)
        return {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": time_ids}}

    def whole(self, n: int, size: tuple[int, int] | None = None) -> torch.Tensor:
        """What is told of pictures that were never cut or scaled [n, 6]."""
        high, wide = size or (self.size, self.size)
        return torch.tensor([[high, wide, 0, 0, high, wide]] * n, dtype=torch.float32)

    def fresh_unet(self, dtype: torch.dtype = torch.float32) -> Any:
        """Another copy of the pretrained U-Net, read from disk, for a method that trains all of
        it.
        """
        if self.text.behind:
            raise UserError(
                f"the backbone {self.name!r} has a transformer, and what was asked for trains a "
                f"whole U-Net; use the method perfusion, or a backbone of 1.x, 2.x or XL"
            )
        if self.place.is_file():
            unet = load_pipeline(self.place, dtype).unet
        else:
            unet = UNet2DConditionModel.from_pretrained(
                self.place,
                subfolder="unet",
                dtype=dtype,
                use_safetensors=True,
                variant=variant_of(self.place),
            )
        return lay_out(unet.to(self.device), self.device).requires_grad_(False).eval()


def cross_attentions(unet: Any) -> dict[str, Any]:
    """The text cross-attentions by name, in the U-Net's own order: every method's layers. The
    motion modules of a video U-Net read no text. What is compiled has the names it had before.
    """
    return {
        name.replace("_orig_mod.", ""): module
        for name, module in unet.named_modules()
        if name.endswith("attn2") and hasattr(module, "to_k") and "motion_modules" not in name
    }


def lay_out(network: Any, device: torch.device) -> Any:
    """Channels last, which convolutions like; on the CPU with group norms that can bear it."""
    if device.type == "cpu":
        for module in network.modules():
            if type(module) is torch.nn.GroupNorm:
                module.__class__ = LaidOutNorm
    return network.to(memory_format=torch.channels_last)


class LaidOutNorm(torch.nn.GroupNorm):
    """Among channels-last convolutions on the CPU, whose own kernel for it is slow in bfloat16.

    Pictures are normalised in the usual layout. A training does without the four copies this takes
    forwards and backwards: in float32 the kernel is quick in either layout.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return channels_last(super().forward(x.contiguous()))
        weight, bias = self.weight.float(), self.bias.float()
        exact = group_norm(channels_last(x).float(), self.num_groups, weight, bias, self.eps)
        return exact.to(x.dtype)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def fast_dtype(device: torch.device) -> torch.dtype:
    """What a plan says of this device, too."""
    return DTYPES[fast_dtype_name(str(device))]


def as_dtype(dtype: str | torch.dtype) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    return DTYPES[dtype]


@contextmanager
def quiet() -> Iterator[None]:
    """Loading without the libraries' progress bars: they would stand between our own lines."""
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    shown = [library for library in (diffusers, transformers) if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


@quiet()
def load_pipeline(place: Path, dtype: torch.dtype) -> Any:
    common = {"safety_checker": None, "requires_safety_checker": False}
    if place.is_file():
        return open_single_file(place, dtype)
    if sentence := why_not_folder(place):
        raise UserError(sentence)
    kinds = {"text_encoder": torch.float32, "default": dtype}
    if "transformer" in index_of(place):
        return load_captioned(place, kinds)
    if "text_encoder_2" in index_of(place):
        return load_joint(place, kinds | {"text_encoder_2": torch.float32})
    try:
        return StableDiffusionPipeline.from_pretrained(
            place,
            dtype=kinds,
            use_safetensors=True,
            variant=variant_of(place),
            feature_extractor=None,
            **common,
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot open the backbone in {place}: {str(error).strip().splitlines()[0]}"
        ) from error


def load_joint(place: Path, kinds: dict[str, torch.dtype]) -> Any:
    """Stable Diffusion XL's kind. Its VAE leaves float16's range, but for one that was made for it
    (`force_upcast` is off there), so it stays in float32 then.
    """
    try:
        pipe = StableDiffusionXLPipeline.from_pretrained(
            place,
            dtype=kinds,
            use_safetensors=True,
            variant=variant_of(place),
            feature_extractor=None,
            image_encoder=None,
            add_watermarker=False,
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot open the backbone in {place}: {str(error).strip().splitlines()[0]}"
        ) from error
    if "beta_schedule" not in pipe.scheduler.config:
        raise UserError(
            f"the backbone in {place} has the schedule of a {type(pipe.scheduler).__name__}, which "
            f"knows no betas (EDM, as Playground 2.5), and training and drawing here need them; "
            f"use its own pipeline with load_concepts"
        )
    pipe.vae.to(dtype_of(pipe.vae, kinds["default"]))
    return pipe


def check_shape(pipe: Any, name: str) -> None:
    """Stable Diffusion 1.x, 2.x and XL, PixArt and Sana and whatever is built like them; a clear
    sentence for the rest.
    """
    denoiser = denoiser_of(pipe)
    if getattr(denoiser.config, "time_cond_proj_dim", None) is not None:
        raise UserError(
            f"the backbone {name!r} is a distilled U-Net that is told the guidance scale (LCM), "
            f"which training and sampling here do not tell; give the model that it was distilled "
            f"from, or use its own pipeline with load_concepts"
        )
    check_channels(name, denoiser.config.in_channels, pipe.vae.config.latent_channels)
    layers = cross_attentions(denoiser)
    width = text_encoders(pipe).width
    fits = (isinstance(denoiser, UNet2DConditionModel) or reads_captions(denoiser)) and layers
    if not fits or any(layer.to_k.in_features != width for layer in layers.values()):
        raise UserError(
            f"the backbone {name!r} is not shaped like Stable Diffusion 1.x, 2.x or XL: "
            f"text encodings of width {width} have to feed every text cross-attention of a "
            f"UNet2DConditionModel"
        )
