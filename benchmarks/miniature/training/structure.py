"""Does text attention at the latent's full resolution matter? Two U-Nets that go on from the same
weights, alike in data, order and time, with it and without (docs/experiments.md has the rule).

`python -m benchmarks.miniature.training.structure ARM OUT [--start DIR] [--work DIR] [--minutes N]`
`python -m benchmarks.miniature.training.structure concepts OUT`

In: an arm: `with` or `without`, or `alike`, attention where Stable Diffusion has it, at less cost.
Out: a backbone folder whose U-Net was trained by one core for so many minutes of its time; killed,
the same command goes on. `concepts`: the six instances on which the arms are compared, as a suite's
folder.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import CLIPTextModel

from benchmarks.miniature.shipped import taken
from benchmarks.miniature.training.growth import grown
from benchmarks.miniature.training.hyperparameters import Recipe
from benchmarks.miniature.training.networks import make_unet
from benchmarks.miniature.training.onwards import go_on, take_words
from benchmarks.miniature.training.stage import Stage
from benchmarks.miniature.training.training_data import Rows
from benchmarks.miniature.training.unet import DECAY, guessing
from benchmarks.miniature.training.vae import latents
from benchmarks.miniature.training.weights_export import copied_weights
from benchmarks.miniature.training.workshop import Workshop
from benchmarks.miniature.world.instance import make_instance
from benchmarks.miniature.worlds import GROUP
from benchmarks.paths import miniature_dir
from benchmarks.suite.concept_folder import write_concept
from perfusion_core.errors import UserError

# the first miniature's: none at 16 x 16, convolutions of 1 x 1 around it
FIRST: dict[str, Any] = {
    "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
    "attention_head_dim": 4,
    "use_linear_projection": False,
}
# one head where there are 256 places: what a softmax over them costs grows with the heads
EVERYWHERE: dict[str, Any] = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3,
    "attention_head_dim": (1, 4, 4),
}
# `alike` is as all miniatures are built since
ARMS: dict[str, dict[str, Any]] = {"without": FIRST, "with": {**FIRST, **EVERYWHERE}, "alike": {}}
# class -> which instance; none is in a training picture, nor shipped
SIX = {"cat": 101, "dog": 102, "teddy": 103, "pot": 104, "chair": 105, "tortoise": 106}
# 80,000 pictures, each as often; rate and settling of a U-Net that goes on from averaged weights
RECIPE = Recipe(shards=8, unet_lr=2e-3, rare=1.0, middle=0.0, settle=0.6)


def train_arm(arm: str, out: Path, work: Path, minutes: float, weights: Path) -> None:
    """Train what is missing of an arm's minutes, and export it. Pictures, words and latents in
    `work` are shared by the arms."""
    refuse_attending(arm, weights)
    torch.set_num_threads(1)
    take_words(weights, work)
    shop = Workshop(work, RECIPE, clock=time.process_time)
    go_on(shop, weights, ["vae"])
    unet = unet_from(weights, **ARMS[arm])
    stage = Stage({"unet": unet.train()}, shop.file(f"unet-{arm}"), lr=RECIPE.unet_lr, decay=DECAY)
    codes = Rows([latents(shop)], shop.device)
    if (left := minutes - stage.seconds / 60) * 60 >= 1:
        shop.loop(stage, f"unet-{arm}", left, guessing(shop, unet, text_encoder(weights), codes))
    stage.use_average()
    about = {"arm": arm, "steps": stage.step, "seconds": round(stage.seconds)}
    with copied_weights(weights, out, ("unet",), structure=about) as part:
        unet.half().save_pretrained(part / "unet")


def refuse_attending(arm: str, weights: Path) -> None:
    """Of weights that attend at 16 x 16 already one arm keeps what was learned there, the other
    loses it."""
    about = json.loads((weights / "unet" / "config.json").read_text(encoding="utf-8"))
    if arm != "alike" and about["down_block_types"][0] != FIRST["down_block_types"][0]:
        raise UserError(
            f"the U-Net in {weights} attends at 16 x 16 already, so the arms would not begin "
            f"alike; give weights of the first world with --start"
        )


def unet_from(weights: Path, **changed: Any) -> Any:
    """A U-Net that predicts what the one in `weights` does, as far as it has the same layers."""
    old = load_file(weights / "unet" / "diffusion_pytorch_model.safetensors")
    return grown(make_unet(**changed), old)


def text_encoder(weights: Path) -> Any:
    text = CLIPTextModel.from_pretrained(weights / "text_encoder", dtype=torch.float32)
    return text.eval().requires_grad_(False)


def write_concepts(root: Path) -> None:
    for cls, number in SIX.items():
        images, masks = taken(make_instance(cls, ("concept", number)), f"trial_{cls}", 6, False)
        write_concept(
            root / f"trial_{cls}",
            super_category=cls,
            group=GROUP[cls],
            source="drawn by benchmarks/miniature for the trial of its structure",
            licence="Apache-2.0",
            images=images,
            masks=masks,
        )


def main() -> None:
    """One arm or the concepts, from the command line."""
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=about)
    parser.add_argument("arm", choices=[*ARMS, "concepts"])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--start", type=Path, help="folder of weights to go on from (default: the shipped ones)"
    )
    parser.add_argument(
        "--work", type=Path, help="folder for checkpoints and pictures (default: OUT.build)"
    )
    parser.add_argument(
        "--minutes", type=float, default=60, help="minutes of one core's time (default: 60)"
    )
    args = parser.parse_args()
    if args.arm == "concepts":
        return write_concepts(args.out)
    work = args.work or args.out.with_name(f"{args.out.name}.build")
    try:
        train_arm(args.arm, args.out, work, args.minutes, args.start or miniature_dir())
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
