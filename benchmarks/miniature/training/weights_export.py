"""From a work folder to a folder of weights, and from a folder of weights to a copy that differs in
a few parts.

In: a workshop, or weights. Out: a folder in diffusers layout, whole or not there, with `build.json`
beside the models.
"""

import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from benchmarks.disk import replace
from benchmarks.miniature.training import networks
from benchmarks.miniature.training.hyperparameters import STAGES
from benchmarks.miniature.training.judge_training import trained_judge
from benchmarks.miniature.training.judges import FOLDER, JUDGES, write_judges
from benchmarks.miniature.training.scorer_training import trained_scorer
from benchmarks.miniature.training.text_encoder import trained_text_encoder
from benchmarks.miniature.training.training_data import CAPTIONS
from benchmarks.miniature.training.unet import trained_unet
from benchmarks.miniature.training.vae import latent_scale, trained_vae
from benchmarks.miniature.training.workshop import Workshop
from benchmarks.miniature.which_world import BUILT, RECORD, world_of_weights

VERSION = 1


def export_weights(shop: Workshop, out: Path) -> None:
    """What there is, as `from_pretrained` opens it, float16."""
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    _export_pipeline(shop, part)
    stages = {name: shop.spent(name) for name in STAGES if shop.file(name).exists()}
    for name in networks.SCORERS:
        if name in stages:
            _export_scorer(shop, name, part)
    if all(name in stages for name in JUDGES):
        about = {"version": VERSION, "stages": {name: stages[name] for name in JUDGES}}
        write_judges({name: trained_judge(shop, name) for name in JUDGES}, part / FOLDER, about)
    record = {
        "version": VERSION,
        "world": BUILT,
        "recipe": asdict(shop.recipe),
        "stages": stages,
        "device": shop.device.type,
    }
    record["hours"] = round(
        sum(stage["seconds"] + stage["elsewhere"] for stage in stages.values()) / 3600, 2
    )
    _write_record(part, record)
    for path in part.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors keeps what it writes to its owner
    replace(part, out)


def _export_pipeline(shop: Workshop, folder: Path) -> None:
    """Text encoder, VAE, U-Net, tokenizer and scheduler."""
    from diffusers import StableDiffusionPipeline

    vae = trained_vae(shop)
    vae.register_to_config(scaling_factor=latent_scale(shop))
    pipe: Any = StableDiffusionPipeline(
        vae=vae.cpu().half(),
        text_encoder=trained_text_encoder(shop).cpu().half(),
        tokenizer=shop.tokenizer,
        unet=trained_unet(shop).cpu().half(),
        scheduler=networks.make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)


def _export_scorer(shop: Workshop, name: str, part: Path) -> None:
    """In open_clip's layout."""
    scorer = trained_scorer(shop, name)
    folder = part / name
    folder.mkdir()
    state = {k: v.detach().cpu().contiguous().half() for k, v in scorer.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    # open_clip looks for a local tokenizer beside the weights, whatever name stands here
    config = networks.SCORERS[name]
    text = {
        **config["text_cfg"],
        "vocab_size": len(shop.tokenizer),
        "hf_tokenizer_name": "tokenizer",
    }
    config = {
        "model_cfg": {**config, "text_cfg": text},
        "preprocess_cfg": networks.SCORER_PREPROCESS,
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1))
    shutil.copytree(part / "tokenizer", folder, dirs_exist_ok=True)


def export_covariance(shop: Workshop, out: Path, captions: int = 20_000) -> None:
    """C of the exported text encoder over the training captions, by the ordinary code, beside the
    weights.
    """
    from perfusion_core.backbone import Backbone
    from perfusion_core.covariance import FILE, estimate

    backbone = Backbone.open(out, device=shop.device)
    source = "the miniature's captions"
    estimate(backbone, shop.pictures.texts[::CAPTIONS], out / FILE, source=source, limit=captions)


# ---- copies that differ in a few parts


def read_record(weights: Path) -> dict[str, Any]:
    """How these weights were made."""
    return json.loads((weights / RECORD).read_text(encoding="utf-8"))


@contextmanager
def copied_weights(
    weights: Path, out: Path, without: Collection[str], **record: Any
) -> Iterator[Path]:
    """A copy of a folder of weights that lacks the parts `without`, for the caller to fill in; then
    it is `out`.

    `record` is added to what its `build.json` says. A copy is of the world of what it was made of.
    """
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)

    def left_out(folder: str, names: list[str]) -> set[str]:
        return {*without, RECORD} & {*names} if Path(folder) == weights else set()

    shutil.copytree(weights, part, ignore=left_out)
    world = world_of_weights(weights)
    _write_record(part, {**read_record(weights), **({"world": world} if world else {}), **record})
    yield part
    replace(part, out)


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
