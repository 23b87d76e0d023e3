"""How the judges are trained: renders that went through the VAE, blurred, noisy, in another light.

In: a workshop whose VAE is trained. Out: the stages `factors`, `identity` and `segment` on disk;
the judges, averaged.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.miniature.training.judge_data import NAMES, RUN, render_judged
from benchmarks.miniature.training.judges import JUDGES, make_judge
from benchmarks.miniature.training.stage import Stage
from benchmarks.miniature.training.training_data import Rows, write_array
from benchmarks.miniature.training.vae import trained_vae
from benchmarks.miniature.training.workshop import Loss, Workshop
from benchmarks.miniature.world.instance import stream
from benchmarks.miniature.world.picture import CLASSES

SEED, RATE = 100, 3e-3


def spoil(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Blur, noise and a change of light, each picture its own; what a judge has to see through."""

    def chance(low: float, high: float, share: float = 1.0) -> torch.Tensor:
        u = torch.rand(2, len(x), 1, 1, 1, generator=g, device=x.device)
        return (low + (high - low) * u[0]) * (u[1] < share)

    kernel = torch.tensor([1.0, 2.0, 1.0], device=x.device) / 4
    blurred = F.conv2d(
        F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel.outer(kernel).expand(3, 1, 3, 3), groups=3
    )
    x = x + chance(0.0, 1.0, 0.5) * (blurred - x)
    x = x * (1 + chance(-0.1, 0.1)) + chance(-0.1, 0.1)
    return x + chance(0.0, 0.14, 0.5) * torch.randn(x.shape, generator=g, device=x.device)


class Lessons:
    """What the judges are taught with: batches of spoilt renders, their labels and masks."""

    def __init__(self, shop: Workshop):
        self.shop, self.device = shop, shop.device
        folder, shards = shop.folder / "judge", shop.recipe.judge_shards
        render_judged(folder, shards, shop.workers, shop.recipe.shard)
        parts = {
            what: [np.load(folder / f"{k:04d}.{what}.npy", mmap_mode="r") for k in range(shards)]
            for what in ("images", "masks", "labels", "who")
        }
        self.images, self.masks = (
            Rows(parts["images"], self.device),
            Rows(parts["masks"], self.device),
        )
        self.labels = np.concatenate(parts["labels"]).astype(np.int64)
        self.who = np.concatenate(parts["who"])
        self.trips = Rows([self.round_trips(folder / "trips.npy")], self.device)
        plain = [NAMES.index(name) for name in ("style", "material")]
        self.clean = (self.labels[:, plain] == 0).all(1)
        first = self.labels[::RUN, NAMES.index("cls")]  # of every run
        self.runs = [np.flatnonzero(first == c) for c in range(len(CLASSES))]

    def round_trips(self, path: Path, chunk: int = 100) -> np.ndarray:
        """The first pictures through the VAE, half of them with noise on their latents; made
        once.
        """
        if not path.exists():
            vae, n = trained_vae(self.shop), min(self.shop.recipe.judge_trips, len(self.images))
            rows, g = [], self._generator("trips", 0)
            with torch.no_grad():
                # How far latents spread.
                spread = vae.encode(
                    self.shop.see(self.images(np.arange(64)))
                ).latent_dist.mean.std()
                for k in tqdm(range(0, n, chunk), desc="round trips", mininterval=5):
                    x = self.shop.see(self.images(np.arange(k, min(k + chunk, n))))
                    with self.shop.half():
                        # Encode, add noise, decode.
                        z = vae.encode(x).latent_dist.mean
                        u = torch.rand(2, len(z), 1, 1, 1, generator=g, device=self.device)
                        noise = torch.randn(z.shape, generator=g, device=self.device)
                        y = vae.decode(
                            (z + spread * 0.3 * u[0] * (u[1] < 0.5) * noise).to(z.dtype)
                        ).sample
                    y = ((y.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
                    rows.append(y.permute(0, 2, 3, 1).cpu().numpy())
            write_array(path, np.concatenate(rows))
        return np.load(path, mmap_mode="r")

    def _generator(self, *key: object) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(int(stream(*key).integers(2**62)))

    def batch(self, index: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """The pictures at `index` as judges see them, those that have one often after their round
        trip.
        """
        x = self.shop.see(self.images(index))
        trips = np.flatnonzero((index < len(self.trips)) & (rng.random(len(index)) < 0.6))
        if len(trips):
            place = torch.from_numpy(trips).to(self.device)
            x = x.index_copy(0, place, self.shop.see(self.trips(index[trips])).contiguous())
        g = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        return spoil(2 * x, g).contiguous(memory_format=self.shop.layout)

    def some(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Half of the pictures among those that have a round trip."""
        head = rng.integers(len(self.trips), size=n // 2)
        return np.concatenate([head, rng.integers(len(self.images), size=n - n // 2)])

    def alike(self, rng: np.random.Generator, groups: int) -> np.ndarray:
        """Runs of RUN pictures of one instance, eight runs of a class, so that strangers look
        alike.
        """
        classes = min(len(CLASSES), max(1, groups // 8))
        chosen = rng.choice(len(CLASSES), classes, replace=False)
        runs = np.concatenate([rng.choice(self.runs[c], groups // classes) for c in chosen])
        return (runs[:, None] * RUN + np.arange(RUN)).ravel()


# ---- the stages


def judge_module(shop: Workshop, name: str) -> Any:
    shop.seed(SEED + JUDGES.index(name))
    return make_judge(name).to(shop.device).to(memory_format=shop.layout)


def train_judge(shop: Workshop, minutes: float, name: str) -> None:
    """One judge for so long."""
    lessons = Lessons(shop)
    network = judge_module(shop, name).train()
    stage = Stage({name: network}, shop.file(name), lr=RATE)
    step = {"factors": _factors, "identity": _identity, "segment": _segment}[name]
    model = shop.compiled(network)
    shop.loop(stage, name, minutes, lambda rng: step(shop, lessons, network, model, rng))


def trained_judge(shop: Workshop, name: str) -> torch.nn.Module:
    """A trained judge, averaged, frozen."""
    network = judge_module(shop, name)
    shop.average(name, {name: network})
    return network.eval().requires_grad_(False)


def _factors(
    shop: Workshop, lessons: Lessons, network: Any, model: Any, rng: np.random.Generator
) -> Loss:
    """Cross-entropy of every factor."""
    index = lessons.some(rng, shop.recipe.judge_batch)
    # [batch, factors]
    truth = torch.from_numpy(lessons.labels[index]).to(shop.device, non_blocking=True)
    with shop.half():
        said = model(lessons.batch(index, rng))
    losses = [F.cross_entropy(said[name].float(), truth[:, k]) for k, name in enumerate(NAMES)]
    right = [(said[name].argmax(1) == truth[:, k]).float().mean() for k, name in enumerate(NAMES)]
    return sum(losses[1:], start=losses[0]), dict(zip(NAMES, right))


def _identity(
    shop: Workshop, lessons: Lessons, network: Any, model: Any, rng: np.random.Generator
) -> Loss:
    """A logistic loss of every pair, and the error of the instance's guessed numbers."""
    # Runs of one instance.
    index = lessons.alike(rng, shop.recipe.judge_batch // RUN)
    with shop.half():
        v, told = network.both(lessons.batch(index, rng))
    v = v.float()  # [batch, d]
    # Guess the instance's numbers.
    clean = torch.from_numpy(lessons.clean[index]).to(shop.device)
    truth = torch.from_numpy(lessons.who[index]).to(shop.device)
    guess = (
        F.smooth_l1_loss(told.float(), truth, beta=0.1, reduction="none").mean(1) * clean
    ).mean()
    # Pairs within a class.
    cls = torch.from_numpy(lessons.labels[index, NAMES.index("cls")]).to(shop.device)
    number = torch.from_numpy(index // RUN).to(shop.device)
    which = torch.from_numpy(index).to(shop.device)
    # [batch, batch]
    pairs = (cls[:, None] == cls) & clean[:, None] & clean & (which[:, None] != which)
    same = (number[:, None] == number) & pairs
    other = pairs & (number[:, None] != number)
    # Same together, others apart.
    logit = network.scale.exp() * (v @ v.T) + network.bias

    def over(values: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        return (values * pairs).sum() / pairs.sum().clamp(min=1)  # a small batch may have none

    near, far = over(F.softplus(-logit), same), over(F.softplus(logit), other)
    found, refused = over(logit > 0, same), over(logit < 0, other)
    told_of = {"guess": guess, "same": near, "other": far, "found": found, "refused": refused}
    return near + far + 20 * guess, told_of


def _segment(
    shop: Workshop, lessons: Lessons, network: Any, model: Any, rng: np.random.Generator
) -> Loss:
    """Cross-entropy of every pixel, and the Dice loss of the whole mask."""
    index = lessons.some(rng, shop.recipe.judge_batch // 2)
    truth = lessons.masks(index).to(shop.device).float() / 255  # [batch, 64, 64]
    with shop.half():
        logit = model(lessons.batch(index, rng))
    logit = logit.float()
    # Dice of soft masks.
    said = logit.sigmoid()
    dice = 1 - 2 * (said * truth).sum((1, 2)) / ((said + truth).sum((1, 2)) + 1)
    # IoU of hard masks.
    a, b = logit > 0, truth > 0.5
    iou = ((a & b).sum((1, 2)) / (a | b).sum((1, 2)).clamp(min=1)).mean()
    return F.binary_cross_entropy_with_logits(logit, truth) + 0.5 * dice.mean(), {"iou": iou}
