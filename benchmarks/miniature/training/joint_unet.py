"""The U-Net of miniature-xl: it begins with what a finished miniature's U-Net computes, and learns
to read two text encoders, pooled text and sizes.

In: a workshop with the stage `text-xl`, finished weights. Out: the stage `unet-xl` on disk; the
U-Net, averaged and frozen.

The finished U-Net reads its text encoder's last output behind the final norm, and XL's kind reads
the penultimate without it. So the best linear map from one to the other, over captions, is
multiplied into K and V; what it misses is learned.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from benchmarks.miniature.training import networks
from benchmarks.miniature.training.growth import READS, grown_joint
from benchmarks.miniature.training.joint_text import (
    Readers,
    first_text_encoder,
    trained_second_text_encoder,
)
from benchmarks.miniature.training.photographed import SHARE, photographs, sizes_told
from benchmarks.miniature.training.stage import Stage
from benchmarks.miniature.training.training_data import Rows, to_device
from benchmarks.miniature.training.unet import DECAY, denoising, shares
from benchmarks.miniature.training.vae import encode_all, latent_scale, latents, latents_file
from benchmarks.miniature.training.workshop import Loss, Step, Workshop
from perfusion_core.errors import UserError

SEED = 12
NAME = "unet-xl"
TEXTS = 2_000  # captions that the bridge is fitted to
HELD = 500  # others, on which it is measured


class Even(torch.nn.Module):
    """Divides each encoder's encodings by their usual size. Without a final norm they are some
    times larger than what a U-Net reads elsewhere, and a step of K or V would be as much too large.
    The export multiplies it into K and V.
    """

    running_size: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("running_size", torch.ones(width))

    def forward(self, encodings: torch.Tensor) -> torch.Tensor:
        return encodings / self.running_size


@dataclass(frozen=True)
class Bridge:
    """From what is read of both text encoders to what the finished U-Net reads of the first."""

    matrix: torch.Tensor  # [d1, d1]: the last output is about the penultimate one times it
    sizes: torch.Tensor  # [d], root mean square of the numbers of each encoder
    explained: float  # R^2 on captions that it was not fitted to


@torch.no_grad()
def bridge_of(first: Any, readers: Readers, ids: torch.Tensor, held: int) -> Bridge:
    """Least squares over every position of texts [n, M], but for the last `held` ones."""
    said = [(readers(some)[0], first(some).last_hidden_state) for some in ids.split(100)]
    x, y = (torch.cat(part).cpu().double() for part in zip(*said))  # [n, M, d], [n, M, d1]
    width = y.shape[-1]
    parts = (x[..., :width], x[..., width:])
    sizes = torch.cat([part.square().mean().sqrt().expand(part.shape[-1]) for part in parts])
    from_, to = parts[0].flatten(0, 1), y.flatten(0, 1)
    fitted = len(from_) - held * ids.shape[1]
    matrix = torch.linalg.lstsq(from_[:fitted], to[:fitted]).solution
    rest = to[fitted:]
    missed = (from_[fitted:] @ matrix - rest).square().sum()
    explained = 1 - missed / (rest - rest.mean(0)).square().sum()
    return Bridge(matrix.float(), sizes.float(), float(explained))


def joint_unet_modules(shop: Workshop) -> dict[str, Any]:
    shop.seed(SEED)
    unet: Any = networks.make_joint_unet()
    width = int(unet.config.cross_attention_dim)
    return {
        "unet": unet.to(shop.device).to(memory_format=shop.layout),
        "even": Even(width).to(shop.device),
    }


def train_joint_unet(shop: Workshop, minutes: float, weights: Path) -> None:
    first = first_text_encoder(shop, weights)
    readers = Readers(shop, first, trained_second_text_encoder(shop))
    m = joint_unet_modules(shop)
    if not shop.file(NAME).exists():
        begin(shop, m, weights, first, readers)
    vae = finished_vae(shop, weights)
    codes, taken = latents(shop), photographs(shop, vae, latent_scale(shop))
    m["unet"].train()
    stage = Stage(m, shop.file(NAME), lr=shop.recipe.unet_lr, decay=DECAY)
    shop.loop(stage, NAME, minutes, joint_guessing(shop, m, readers, codes, taken))


def begin(shop: Workshop, m: dict[str, Any], weights: Path, first: Any, readers: Readers) -> None:
    """The modules as the finished U-Net has them, with the bridge in between."""
    texts = shop.ids[: TEXTS + HELD, 0].long()
    bridge = bridge_of(first, readers, texts, held=len(texts) * HELD // (TEXTS + HELD))
    print(f"{NAME}: the bridge explains {bridge.explained:.3f} of what was read", flush=True)
    old: Any = UNet2DConditionModel.from_pretrained(weights / "unet", dtype=torch.float32)
    grown_joint(m["unet"], old.state_dict(), bridge.matrix, bridge.sizes)
    m["even"].running_size.copy_(bridge.sizes)


def finished_vae(shop: Workshop, weights: Path) -> Any:
    """The finished VAE, with whose latents the U-Net goes on; those in the work folder have to be
    of the same.
    """
    vae: Any = AutoencoderKL.from_pretrained(weights / "vae", dtype=torch.float32)
    vae = vae.to(shop.device).to(memory_format=shop.layout).eval().requires_grad_(False)
    scale = float(vae.config.scaling_factor)
    if not latents_file(shop).exists():
        encode_all(shop, vae, scale)
    if not np.isclose(latent_scale(shop), scale, rtol=1e-6):
        raise UserError(
            f"the latents in {shop.folder} are of another VAE than that in {weights}; give the "
            f"weights that were built there, or another --work"
        )
    return vae


def joint_guessing(
    shop: Workshop, m: dict[str, Any], readers: Readers, codes: np.ndarray, taken: Any
) -> Step:
    """What a step learns: the noise in latents of some pictures, a part of them photographs, given
    their captions and sizes. A dropped caption is zeros in both encoders and the pooled text, as
    XL's pipeline has it where there is no prompt (`force_zeros_for_empty_prompt`).
    """
    recipe, even, learn = shop.recipe, m["even"], denoising(shop, m["unet"])
    share = shares(shop.pictures.labels, recipe.rare)
    whole, parts = Rows([codes], shop.device), Rows([taken.codes], shop.device)

    def step(rng: np.random.Generator) -> Loss:
        # Pictures, some of them photographs; captions, some dropped; sizes.
        n = recipe.unet_batch
        index = np.searchsorted(share, rng.random(n), side="right")
        cut = rng.random(n) < SHARE
        index[cut] %= len(taken)
        ids = shop.texts(index, rng)
        kept = to_device((rng.random(n) >= recipe.drop_prompt).astype(np.float32), shop.device)
        sizes = to_device(sizes_told(rng, index, cut, taken.frames), shop.device)
        g = torch.Generator(shop.device).manual_seed(int(rng.integers(2**62)))
        # Their latents.
        x = whole(index).float()  # [batch, 4, 16, 16]
        if cut.any():
            x[to_device(np.flatnonzero(cut), x.device)] = parts(index[cut]).float()

        def tell() -> dict[str, Any]:
            encodings, pooled = readers(ids)
            added = {"text_embeds": pooled * kept[:, None], "time_ids": sizes}
            words = even(encodings) * kept[:, None, None]
            return {"encoder_hidden_states": words, "added_cond_kwargs": added}

        return learn(x, g, tell)

    return step


def trained_joint_unet(shop: Workshop) -> Any:
    """The trained U-Net, averaged, frozen, which reads encodings as they are."""
    m = joint_unet_modules(shop)
    shop.average(NAME, m)
    unet, sizes = m["unet"], m["even"].running_size
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if name.endswith(READS):
                weight.div_(sizes)
    return unet.eval().requires_grad_(False)
