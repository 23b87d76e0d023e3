"""The workshop: what every stage of training needs, from its pictures and words to its clock.

In: a work folder, the recipe, a device, a deadline. Out: batches, each stage's place on disk, the
training loop.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import CLIPTokenizer

from benchmarks.miniature.training import networks
from benchmarks.miniature.training.hyperparameters import Recipe
from benchmarks.miniature.training.stage import Stage, spent
from benchmarks.miniature.training.training_data import (
    CAPTIONS,
    Pictures,
    Rows,
    render_all,
    to_device,
    write_array,
)
from benchmarks.miniature.world.instance import stream
from perfusion_core.backbone import fast_dtype

Loss = tuple[torch.Tensor, dict[str, torch.Tensor]]  # what is minimised, and what to tell of it
Step = Callable[[np.random.Generator], Loss]
CHECKPOINT = 60  # seconds between two
IDS = "ids.npy"  # token ids of every caption, in the work folder


class Paused(Exception):
    """The time of this command is up; what is done is saved, and the same command goes on."""


class Workshop:
    """A work folder, a device and the recipe, with the pictures and words that the stages learn
    from.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        device: str = "cpu",
        workers: int = 2,
        deadline: float = math.inf,
        compile: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`deadline`: of time.monotonic(), when to save and raise Paused; `compile`: networks by
        torch.compile; `clock`: what a stage's minutes are counted by.
        """
        self.folder, self.recipe, self.device = folder, recipe, torch.device(device)
        self.workers, self.deadline, self.compile = workers, deadline, compile
        self.clock = clock
        folder.mkdir(parents=True, exist_ok=True)
        self.seed(0)
        render_all(folder / "pictures", recipe.shards, workers, size=recipe.shard)
        self.pictures = Pictures(folder / "pictures", recipe.shards)
        self.tokenizer = open_tokenizer(folder / "tokenizer", self.pictures.texts)
        self.ids = token_ids(folder / IDS, self.tokenizer, self.pictures.texts).to(self.device)
        self.rows = Rows(self.pictures.images, self.device)
        # on a CPU the normalisation of channels-last groups is several times slower than what
        # convolutions gain
        self.layout = torch.channels_last if self.device.type == "cuda" else torch.contiguous_format
        torch.backends.cudnn.benchmark = True

    def seed(self, number: int) -> None:
        """Each model starts from weights of its own, whatever was trained before it."""
        torch.manual_seed(self.recipe.seed + number)

    # ---- a stage's place on disk

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def spent(self, name: str) -> dict[str, float]:
        return spent(self.file(name))

    def average(self, name: str, modules: dict[str, Any]) -> None:
        """Put a stage's averaged weights (its ema) into modules like those that were trained."""
        Stage(modules, self.file(name), lr=1).use_average()

    # ---- batches

    def batch(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.integers(len(self.pictures), size=n)

    def images(self, index: np.ndarray) -> torch.Tensor:
        return self.see(self.rows(index))

    def see(self, pixels: torch.Tensor) -> torch.Tensor:
        """Bytes [n, 64, 64, 3] as a model sees them: [n, 3, 64, 64] in [-1, 1]."""
        x = pixels.to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        return x.contiguous(memory_format=self.layout)

    def texts(
        self, index: np.ndarray, rng: np.random.Generator, drop_word: float = 0.0
    ) -> torch.Tensor:
        """One caption of each picture; with a chance the one without the object's word."""
        dropped = rng.random(len(index)) < drop_word
        which = np.where(dropped, CAPTIONS - 1, rng.integers(CAPTIONS - 1, size=len(index)))
        return self.ids[to_device(index, self.device), to_device(which, self.device)].long()

    # ---- speed

    def half(self) -> torch.autocast:
        """bfloat16 where the hardware has it natively; elsewhere it is emulated and slow."""
        able = self.device.type == "cuda" or fast_dtype(self.device) == torch.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=able)

    def compiled(self, network: Any) -> Any:
        """What to call in training; the parameters are the network's own."""
        return torch.compile(network) if self.compile else network

    # ---- the loop

    def loop(self, stage: Stage, name: str, minutes: float, step: Step) -> None:
        """Steps until the time is up; a checkpoint a minute. The pictures of a step depend on its
        number alone, and its rate on how much of the stage's whole time is left: a training that
        was interrupted settles as long as another.
        """
        start, saved = self.clock(), time.monotonic()
        before = stage.seconds
        settle = (before + 60 * minutes) * self.recipe.settle
        bar = tqdm(desc=name, initial=stage.step, unit="step", mininterval=5)
        while (
            left := 60 * minutes - (self.clock() - start)
        ) > 0 and time.monotonic() < self.deadline:
            # One step, one batch.
            loss, told = step(stream(name, self.recipe.seed, stage.step))
            stage.update(loss, rate=schedule(left, settle))
            # Tell how it goes.
            bar.update()
            # reading a number off a GPU makes it wait
            if stage.step % 200 == 0 or self.device.type == "cpu":
                bar.set_postfix_str(_told(told), refresh=False)
            # A checkpoint a minute.
            stage.seconds = before + self.clock() - start
            if time.monotonic() - saved > CHECKPOINT:
                stage.save()
                saved = time.monotonic()
                print(
                    f"{name} step {stage.step} {stage.seconds / 60:.1f} min {_told(told)}",
                    flush=True,
                )
        stage.save()
        bar.close()
        if time.monotonic() >= self.deadline:
            raise Paused


def schedule(left: float, settle: float) -> float:
    """The share of the learning rate with so much time left: all of it, in the last part straight
    to a twentieth.
    """
    return max(0.05, min(1.0, left / settle))


def _told(told: dict[str, torch.Tensor]) -> str:
    return " ".join(f"{name} {float(value.detach()):.4g}" for name, value in told.items())


# ---- words


def open_tokenizer(folder: Path, texts: list[str]) -> CLIPTokenizer:
    """The tokenizer of the captions, made once."""
    if not (folder / "tokenizer.json").exists():
        networks.make_tokenizer(texts[: 60_000 * CAPTIONS], folder)
    return CLIPTokenizer.from_pretrained(folder)


def token_ids(
    path: Path, tokenizer: CLIPTokenizer, texts: list[str], chunk: int = 20_000
) -> torch.Tensor:
    """Token ids of every caption, int16 [pictures, CAPTIONS, length], made once."""
    if not path.exists():
        rows = []
        for k in tqdm(range(0, len(texts), chunk), desc="tokenize", leave=False):
            ids = tokenizer(
                texts[k : k + chunk],
                padding="max_length",
                truncation=True,
                max_length=networks.TEXT_LENGTH,
                return_tensors="np",
            ).input_ids
            rows.append(ids.astype(np.int16))
        write_array(path, np.concatenate(rows).reshape(len(texts) // CAPTIONS, CAPTIONS, -1))
    return torch.from_numpy(np.load(path))
