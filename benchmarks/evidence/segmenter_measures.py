"""How well the miniature's segmenter finds the thing in pictures that its models drew, where the
mask is known: renders, drawn anew from partly noised latents, which keeps the layout.

In: an open backbone, judges, how many. Out: `Figure`s by strength, and a row a picture.
"""

from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.evidence.miniature_measures import (
    POOL,
    Figure,
    Rows,
    mean_figure,
    rate_of,
    round_trip,
)
from benchmarks.miniature.training.judge_data import draw_judged
from benchmarks.miniature.training.judges import Judges
from benchmarks.miniature.world.instance import make_instance, stream
from benchmarks.miniature.world.language import caption
from benchmarks.miniature.world.picture import CONCEPT_CLASSES, render
from benchmarks.scoring.subject_alone import DECIDES, LEAST, SHOWN_FROM, share
from perfusion_core.backbone import Backbone, channels_last
from perfusion_core.sampling import as_float, decode, fixed_text, noise, prepared
from perfusion_core.schedulers import DDIM, made

# share of the protocol's steps that are drawn anew; 0: the VAE alone. Beyond the last, a picture is
# another one, and its render's mask is no label
STRENGTHS = (0.0, 0.2, 0.4, 0.6)
STEPS, GUIDANCE, BATCH = 50, 6.0, 16


@torch.no_grad()
def redrawn(
    backbone: Backbone,
    pictures: np.ndarray,
    texts: Sequence[str],
    strength: float,
    guidance: float = GUIDANCE,
) -> np.ndarray:
    """uint8 [n, 64, 64, 3]: noise of so much of the schedule added, and taken away by the model
    with its prompt. With a guidance of 1 the prompt's own estimate is followed alone."""
    if not strength:
        return round_trip(backbone, pictures)
    out = []
    for start in range(0, len(pictures), BATCH):
        some = as_float(pictures[start : start + BATCH]).to(backbone.device, backbone.dtype)
        z = backbone.vae.encode(channels_last(some)).latent_dist.mean.float()
        z = z * backbone.vae.config.scaling_factor
        scheduler = made(DDIM, backbone)
        scheduler.set_timesteps(STEPS)
        times = scheduler.timesteps[round(STEPS * (1 - strength)) :]
        seeds = range(start, start + len(z))
        x = scheduler.add_noise(z, noise(backbone, seeds).to(z), times[:1].expand(len(z)))
        asked = prepared(backbone, texts[start : start + len(z)], seeds, guidance)
        both = [one.plain for one in asked if one.plain] + [one.text for one in asked]
        with fixed_text(backbone, both) as told:
            for t in times:
                x_in = channels_last(x.repeat(len(both) // len(x), 1, 1, 1).to(backbone.dtype))
                *uncond, eps = backbone.unet(x_in, t, **told).sample.float().split(len(x))
                if uncond:
                    eps = uncond[0] + guidance * (eps - uncond[0])
                x = scheduler.step(eps, t, x).prev_sample
        out.append(decode(backbone, x))
    return np.concatenate(out)


def labelled(n: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Renders of the concepts' classes by instances that nobody saw, their masks, their captions;
    such as show enough of the thing."""
    rng = stream("verify", "segmenter")
    pictures: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    texts: list[str] = []
    while len(pictures) < n:
        one = make_instance(str(rng.choice(CONCEPT_CLASSES)), (POOL, int(rng.integers(10_000))))
        picture = draw_judged(rng, POOL, one, style=0.13, material=0.1)
        image, mask = render(picture, ("verify", "segmenter", len(pictures)))
        if share(mask > 127) >= LEAST:
            pictures.append(image)
            masks.append(mask > 127)
            texts.append(caption(picture, rng))
    return np.stack(pictures), np.stack(masks), texts


def overlap(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[n]: intersection over union of each mask with its label."""
    return (found & truth).sum((1, 2)) / (found | truth).sum((1, 2))


def on_drawn(backbone: Backbone, judges: Judges, n: int) -> tuple[list[Figure], Rows]:
    pictures, truth, texts = labelled(n)
    figures: list[Figure] = []
    rows: Rows = []
    for strength in STRENGTHS:
        found = judges.segment(redrawn(backbone, pictures, texts, strength))
        each = overlap(found, truth)
        what = f"drawn anew, strength {strength:g}" if strength else "round trips, as drawn"
        goal = SHOWN_FROM if strength == DECIDES else None
        figures.append(mean_figure(f"segmenter: IoU on {what}", each, goal))
        seen = np.array([share(mask) >= LEAST for mask in found])
        figures.append(rate_of(f"segmenter: finds the thing on {what}", seen))
        rows += [
            {"picture": k, "prompt": texts[k], "strength": strength, "iou": f"{value:.4f}"}
            for k, value in enumerate(each)
        ]
    return figures, rows
