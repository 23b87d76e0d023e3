"""How the judges are trained: renders of other instances than the models saw, through the VAE, blurred, noisy.

In: a `Build` (work folder, device, recipe) whose VAE is trained. Out: three checkpoints of checkpoint.Stage.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.miniature.training.judges import IDENTITY, JUDGED, JUDGES, make_judge
from benchmarks.miniature.training.stage import Stage
from benchmarks.miniature.training.training_data import Rows, labels
from benchmarks.miniature.world.effects import MATERIALS, STYLES
from benchmarks.miniature.world.instance import Instance, make_instance, stream
from benchmarks.miniature.world.picture import CLASSES, PIXELS, POOL, STATES_OF, Picture, is_animal, render
from benchmarks.miniature.world.props import DO, DO_SCENE, WEAR
from benchmarks.miniature.world.scenes import SCENES

if TYPE_CHECKING:
    from benchmarks.miniature.training.recipe import Build

RUN = 4  # neighbours that show one instance
NAMES = tuple(JUDGED)


def draw_judged(
    rng: np.random.Generator, pool: str, one: Instance | None = None, style: float = 0.2, material: float = 0.2
) -> Picture:
    """A picture of one thing, all classes alike, held-out pairs included: a judge must not find them strange."""

    def some(chance: float, names: tuple[str, ...]) -> str | None:
        return str(rng.choice(names)) if rng.random() < chance else None

    one = one or make_instance(str(rng.choice(CLASSES)), (pool, int(rng.integers(POOL))))
    picture = Picture(
        one, str(rng.choice(list(SCENES))), material=some(material, tuple(MATERIALS)), style=some(style, tuple(STYLES))
    )
    values = dict(vars(picture))
    if not is_animal(one.cls):
        return Picture(**{**values, "state": some(0.55, STATES_OF[one.cls])})
    values |= {"wear": some(0.45, tuple(WEAR)), "do": some(0.4, tuple(DO))}
    if values["do"] in DO_SCENE and rng.random() < 0.5:
        values["scene"] = DO_SCENE[values["do"]]
    return Picture(**values)


def render_shard(folder: Path, number: int, pool: str, size: int) -> None:
    """Pictures, masks, labels and instance numbers; RUN neighbours show one instance."""
    done = folder / f"{number:04d}.labels.npy"
    if done.exists():
        return
    rng = stream("judged", pool, number)
    images, masks = np.empty((size, PIXELS, PIXELS, 3), np.uint8), np.empty((size, PIXELS, PIXELS), np.uint8)
    table, who = np.empty((size, len(NAMES)), np.int16), np.empty((size, IDENTITY), np.float32)
    picture: Picture | None = None
    for k in range(size):
        picture = draw_judged(rng, pool, picture.one if picture and k % RUN else None)
        images[k], masks[k] = render(picture, ("judged", pool, number, k))
        table[k], who[k] = labels(picture)[: len(NAMES)], picture.one.vector()
    np.save(folder / f"{number:04d}.images.npy", images)
    np.save(folder / f"{number:04d}.masks.npy", masks)
    np.save(folder / f"{number:04d}.who.npy", who)
    part = folder / f"{number:04d}.part.npy"
    np.save(part, table)
    os.replace(part, done)


def render_all(folder: Path, shards: int, workers: int, size: int, pool: str = "judge") -> None:
    """Render what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    todo = [k for k in range(shards) if not (folder / f"{k:04d}.labels.npy").exists()]
    if not todo:
        return
    with ProcessPoolExecutor(workers) as processes:
        jobs = processes.map(render_shard, *zip(*[(folder, k, pool, size) for k in todo]))
        list(tqdm(jobs, total=len(todo), desc="render for judges", unit="shard"))


def spoil(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Blur, noise and a change of light, each picture its own; what a judge has to see through."""

    def chance(low: float, high: float, share: float = 1.0) -> torch.Tensor:
        u = torch.rand(2, len(x), 1, 1, 1, generator=g, device=x.device)
        return (low + (high - low) * u[0]) * (u[1] < share)

    kernel = torch.tensor([1.0, 2.0, 1.0], device=x.device) / 4
    blurred = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel.outer(kernel).expand(3, 1, 3, 3), groups=3)
    x = x + chance(0.0, 1.0, 0.5) * (blurred - x)
    x = x * (1 + chance(-0.1, 0.1)) + chance(-0.1, 0.1)
    return x + chance(0.0, 0.14, 0.5) * torch.randn(x.shape, generator=g, device=x.device)


class Lessons:
    """What the judges are taught with: batches of spoilt renders, their labels and masks."""

    def __init__(self, build: "Build"):
        self.build, self.device = build, build.device
        folder, shards = build.folder / "judge", build.recipe.judge_shards
        render_all(folder, shards, build.workers, build.recipe.shard)
        parts = {what: [np.load(folder / f"{k:04d}.{what}.npy", mmap_mode="r") for k in range(shards)]
                 for what in ("images", "masks", "labels", "who")}  # fmt: skip
        self.images, self.masks = Rows(parts["images"], self.device), Rows(parts["masks"], self.device)
        self.labels = np.concatenate(parts["labels"]).astype(np.int64)
        self.who = np.concatenate(parts["who"])
        self.trips = Rows([self.round_trips(folder / "trips.npy")], self.device)
        plain = [NAMES.index(name) for name in ("style", "material")]
        self.clean = (self.labels[:, plain] == 0).all(1)
        first = self.labels[::RUN, NAMES.index("cls")]  # of every run
        self.runs = [np.flatnonzero(first == c) for c in range(len(CLASSES))]

    def round_trips(self, path: Path) -> np.ndarray:
        """The first pictures through the VAE, half of them with noise on their latents; made once."""
        if not path.exists():
            vae, n = self.build.trained_vae(), min(self.build.recipe.judge_trips, len(self.images))
            rows, g = [], self._generator("trips", 0)
            with torch.no_grad():
                spread = vae.encode(self._see(self.images(np.arange(64)))).latent_dist.mean.std()
                for k in tqdm(range(0, n, 100), desc="round trips", mininterval=5):
                    x = self._see(self.images(np.arange(k, min(k + 100, n))))
                    with self.build.half():
                        z = vae.encode(x).latent_dist.mean
                        u = torch.rand(2, len(z), 1, 1, 1, generator=g, device=self.device)
                        noise = torch.randn(z.shape, generator=g, device=self.device)
                        y = vae.decode((z + spread * 0.3 * u[0] * (u[1] < 0.5) * noise).to(z.dtype)).sample
                    y = ((y.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
                    rows.append(y.permute(0, 2, 3, 1).cpu().numpy())
            np.save(path.with_suffix(".part.npy"), np.concatenate(rows))
            os.replace(path.with_suffix(".part.npy"), path)
        return np.load(path, mmap_mode="r")

    def _see(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(
            memory_format=self.build.layout
        )

    def _generator(self, *key: object) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(int(stream(*key).integers(2**62)))

    def batch(self, index: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """The pictures at `index` as judges see them, those that have one often after their round trip."""
        x = self._see(self.images(index))
        trips = np.flatnonzero((index < len(self.trips)) & (rng.random(len(index)) < 0.6))
        if len(trips):
            place = torch.from_numpy(trips).to(self.device)
            x = x.index_copy(0, place, self._see(self.trips(index[trips])).contiguous())
        g = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        return spoil(2 * x, g).contiguous(memory_format=self.build.layout)

    def some(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Half of the pictures among those that have a round trip."""
        head = rng.integers(len(self.trips), size=n // 2)
        return np.concatenate([head, rng.integers(len(self.images), size=n - n // 2)])

    def alike(self, rng: np.random.Generator, groups: int) -> np.ndarray:
        """Runs of RUN pictures of one instance, eight runs of a class, so that strangers look alike."""
        classes = min(len(CLASSES), max(1, groups // 8))
        chosen = rng.choice(len(CLASSES), classes, replace=False)
        runs = np.concatenate([rng.choice(self.runs[c], groups // classes) for c in chosen])
        return (runs[:, None] * RUN + np.arange(RUN)).ravel()


def train(build: "Build", name: str, minutes: float) -> None:
    """One judge for so long."""
    lessons = Lessons(build)
    network = judge_module(build, name).train()
    stage = Stage({name: network}, build.folder / f"{name}.safetensors", lr=3e-3)
    step = {"factors": _factors, "identity": _identity, "segment": _segment}[name]
    model = build.compiled(network)

    def one(rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return step(build, lessons, network, model, rng)

    build.loop(stage, name, minutes, one)


def judge_module(build: "Build", name: str) -> Any:
    torch.manual_seed(build.recipe.seed + 100 + JUDGES.index(name))
    return make_judge(name).to(build.device).to(memory_format=build.layout)


def trained(build: "Build", name: str) -> torch.nn.Module:
    """The averaged judge of a work folder."""
    network = judge_module(build, name)
    Stage({name: network}, build.folder / f"{name}.safetensors", lr=1).use_average()
    return network.eval().requires_grad_(False)


def _factors(build, lessons, network, model, rng):
    index = lessons.some(rng, build.recipe.judge_batch)
    truth = torch.from_numpy(lessons.labels[index]).to(build.device, non_blocking=True)
    with build.half():
        said = model(lessons.batch(index, rng))
    losses = [F.cross_entropy(said[name].float(), truth[:, k]) for k, name in enumerate(NAMES)]
    right = [(said[name].argmax(1) == truth[:, k]).float().mean() for k, name in enumerate(NAMES)]
    return sum(losses), dict(zip(NAMES, right))


def _identity(build, lessons, network, model, rng):
    index = lessons.alike(rng, build.recipe.judge_batch // RUN)
    with build.half():
        v, told = network.both(lessons.batch(index, rng))
    v = v.float()
    clean = torch.from_numpy(lessons.clean[index]).to(build.device)
    truth = torch.from_numpy(lessons.who[index]).to(build.device)
    guess = (F.smooth_l1_loss(told.float(), truth, beta=0.1, reduction="none").mean(1) * clean).mean()
    cls = torch.from_numpy(lessons.labels[index, NAMES.index("cls")]).to(build.device)
    number = torch.from_numpy(index // RUN).to(build.device)
    which = torch.from_numpy(index).to(build.device)
    pairs = (cls[:, None] == cls) & clean[:, None] & clean & (which[:, None] != which)
    same = (number[:, None] == number) & pairs
    other = pairs & (number[:, None] != number)
    logit = network.scale.exp() * (v @ v.T) + network.bias

    def over(values: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        return (values * pairs).sum() / pairs.sum().clamp(min=1)  # a small batch may have none

    near, far = over(F.softplus(-logit), same), over(F.softplus(logit), other)
    found, refused = over(logit > 0, same), over(logit < 0, other)
    told_of = {"guess": guess, "same": near, "other": far, "found": found, "refused": refused}
    return near + far + 20 * guess, told_of


def _segment(build, lessons, network, model, rng):
    index = lessons.some(rng, build.recipe.judge_batch // 2)
    truth = lessons.masks(index).to(build.device).float() / 255
    with build.half():
        logit = model(lessons.batch(index, rng))
    logit = logit.float()
    said = logit.sigmoid()
    dice = 1 - 2 * (said * truth).sum((1, 2)) / ((said + truth).sum((1, 2)) + 1)
    a, b = logit > 0, truth > 0.5
    iou = ((a & b).sum((1, 2)) / (a | b).sum((1, 2)).clamp(min=1)).mean()
    return F.binary_cross_entropy_with_logits(logit, truth) + 0.5 * dice.mean(), {"iou": iou}
