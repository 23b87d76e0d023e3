"""miniature-xl as a folder of weights: a stock pipeline of XL's kind, with scorers and judges.

In: a workshop with the stages `text-xl` and `unet-xl`, the finished weights that they began with.
Out: a folder that diffusers' StableDiffusionXLPipeline opens, whole or not there. Its VAE, first
text encoder, scorers and judges are the finished weights' own files.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.miniature.training.hyperparameters import JOINT_STAGES
from benchmarks.miniature.training.joint_text import (
    first_text_encoder,
    second_tokenizer,
    trained_second_text_encoder,
)
from benchmarks.miniature.training.joint_unet import finished_vae, trained_joint_unet
from benchmarks.miniature.training.training_data import CAPTIONS
from benchmarks.miniature.training.weights_export import VERSION, copied_weights
from benchmarks.miniature.training.workshop import Workshop
from benchmarks.miniature.which_world import world_of_weights, xl_of
from perfusion_core.shared_parts import OWN
from perfusion_core.weight_digests import backbone_digest


def export_joint(shop: Workshop, weights: Path, out: Path) -> None:
    """What there is, float16, and C of both text encoders."""
    stages = {name: shop.spent(name) for name in JOINT_STAGES}
    spent = sum(stage["seconds"] + stage["elsewhere"] for stage in stages.values())
    about = {
        "version": VERSION,
        "recipe": asdict(shop.recipe),
        "stages": stages,
        "hours": round(spent / 3600, 2),
        "device": shop.device.type,
        "grown_from": backbone_digest(weights),
    }
    world = xl_of(world_of_weights(weights))
    with copied_weights(weights, out, OWN, world=world, joint=about) as part:
        unet = trained_joint_unet(shop).cpu().half()
        second = trained_second_text_encoder(shop).cpu().half()
        unet.save_pretrained(part / "unet")
        second.save_pretrained(part / "text_encoder_2")
        second_tokenizer(part / "tokenizer").save_pretrained(part / "tokenizer_2")
        _write_index(shop, weights, part, unet, second)
        export_joint_covariance(shop, part)
        for path in part.rglob("*.safetensors"):
            path.chmod(0o644)  # safetensors keeps what it writes to its owner


def _write_index(shop: Workshop, weights: Path, part: Path, unet: Any, second: Any) -> None:
    """model_index.json, as diffusers writes it."""
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline

    pipe: Any = StableDiffusionXLPipeline(
        vae=finished_vae(shop, weights),
        text_encoder=first_text_encoder(shop, weights),
        text_encoder_2=second,
        tokenizer=shop.tokenizer,
        tokenizer_2=second_tokenizer(part / "tokenizer"),
        unet=unet,
        scheduler=DDIMScheduler.from_pretrained(weights / "scheduler"),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    pipe.save_config(part)


def export_joint_covariance(shop: Workshop, part: Path, captions: int = 20_000) -> None:
    """C of both text encoders side by side over the training captions."""
    from perfusion_core.backbone import Backbone
    from perfusion_core.covariance import FILE, estimate

    backbone = Backbone.open(part, device=shop.device)
    texts, source = shop.pictures.texts[::CAPTIONS], "the miniature's captions"
    estimate(backbone, texts, part / FILE, source=source, limit=captions)
