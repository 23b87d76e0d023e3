"""A fine-tuned copy of the miniature that draws everything in one style, as people's own
checkpoints do (Fig. 12).

Its captions never name the style. Text encoder, VAE, C and scorers stay as they are; the U-Net
alone learns.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.miniature.opening import opened
from benchmarks.miniature.training.weights_export import copied_weights
from benchmarks.miniature.world.effects import STYLES
from benchmarks.miniature.world.instance import stream
from benchmarks.miniature.world.language import caption
from benchmarks.miniature.world.picture import draw_random, render
from perfusion_core.errors import unknown
from perfusion_core.latents import vae_moments
from perfusion_core.sampling import as_float
from perfusion_core.training import Batch, Recipe, bar, train

PICTURES, BATCH, RATE = 2000, 32, 3e-4
DROP = 0.1  # captions left out, for guidance


def styled(style: str, n: int) -> tuple[np.ndarray, list[str]]:
    """Pictures of the training world in this style, with captions of the same pictures without
    it.
    """
    rng = stream("restyle", style)
    plain = [replace(draw_random(rng), style=None, material=None) for _ in range(n)]
    pictures = np.stack(
        [render(replace(p, style=style), ("restyle", style, k))[0] for k, p in enumerate(plain)]
    )
    return pictures, [caption(picture, rng) for picture in plain]


def restyle(
    weights: Path,
    style: str,
    out: Path,
    *,
    steps: int,
    device: str,
    dtype: str,
    pictures: int = PICTURES,
) -> Path:
    """Train a copy of the U-Net; a whole backbone with it in the folder `out`."""
    if style not in STYLES:
        raise unknown("style", style, STYLES)
    backbone = opened(weights, device, dtype)
    images, texts = styled(style, pictures)
    mean, _ = vae_moments(backbone, as_float(images), chunk=64)
    unet = backbone.fresh_unet().requires_grad_(True)
    unet.register_to_config(_name_or_path="")

    def draw(rng: torch.Generator) -> Batch:
        index = torch.randint(len(texts), (BATCH,), generator=rng)
        dropped = torch.rand(BATCH, generator=rng) < DROP
        said = ["" if drop else texts[k] for k, drop in zip(index.tolist(), dropped.tolist())]
        return Batch(mean[index.to(mean.device)], said)

    with tempfile.TemporaryDirectory() as aside:
        log = train(
            backbone,
            Recipe(steps, weight_decay=0.01, clip=1.0),
            [{"params": list(unet.parameters()), "lr": RATE}],
            draw,
            backbone.encode,
            seed=0,
            out=Path(aside),
            save=lambda folder: None,
            unet=unet,
            progress=bar(f"restyle {style}", BATCH),
        )
    about = {"style": style, "pictures": pictures, "steps": steps, "batch": BATCH, "rate": RATE}
    about["seconds"] = round(log["seconds"])
    with copied_weights(weights, out, ("unet",), restyled=about) as part:
        unet.half().save_pretrained(part / "unet")
    return out
