"""The recipe: from nothing to the miniature's weights, in stages that can be stopped and run again.

    pictures -> tokenizer -> text encoder -> VAE -> latents -> U-Net -> scorer -> scorer2 -> judges -> export, C

In: a work folder and how long each stage may take; out: the folder `weights` in diffusers layout. One seed.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch.nn import functional as F
from tqdm import tqdm
from transformers import CLIPTokenizer

from benchmarks.miniature.training import networks
from benchmarks.miniature.training.judges import FOLDER, JUDGES, write_judges
from benchmarks.miniature.training.stage import Stage, spent
from benchmarks.miniature.training.training_data import CAPTIONS, Pictures, Rows, render_all, to_device
from benchmarks.miniature.world.instance import stream
from benchmarks.miniature.world.picture import CLASSES
from perfusion_core.backbone import fast_dtype

VERSION = 1
STAGES = ("text", "vae", "unet", "scorer", "scorer2")
Step = Callable[[np.random.Generator], tuple[torch.Tensor, dict[str, torch.Tensor]]]  # -> loss, what to tell
# minutes of each stage: an hour at most on two cores of a CPU; together 23 on a large GPU
MINUTES = {
    "cpu": {
        "text": 10.0, "vae": 50.0, "unet": 60.0, "scorer": 30.0, "scorer2": 20.0,
        "factors": 20.0, "identity": 15.0, "segment": 10.0,
    },
    "cuda": {
        "text": 3.0, "vae": 4.0, "unet": 8.0, "scorer": 2.5, "scorer2": 1.5,
        "factors": 1.5, "identity": 1.5, "segment": 1.0,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, but the time they are given."""

    shards: int = 20
    shard: int = 10_000  # pictures
    seed: int = 0
    text_batch: int = 192
    text_lr: float = 3e-3
    own_token: float = 1.0  # weight of the loss that keeps words apart: every position predicts its own token
    vae_batch: int = 64
    vae_crop: int = 32  # the VAE learns from crops: four times the variety for the same work
    vae_lr: float = 5e-3
    kl: float = 1e-5
    unet_batch: int = 96
    unet_lr: float = 3e-3
    drop_prompt: float = 0.1
    snr_cap: float = 5.0  # min-SNR weighting of the noise loss
    scorer_batch: int = 192
    scorer_lr: float = 3e-3
    same_instance: float = 1.0  # weight of the loss that pulls two pictures of one instance together
    drop_word: float = 0.15  # captions of the scorer without the object's word, as the text metric writes them
    judge_shards: int = 6  # of pictures of other instances
    judge_trips: int = 8_000  # of them through the VAE
    judge_batch: int = 192
    settle: float = 0.25  # the last part of a stage's time, in which its learning rate goes down to a twentieth


# a GPU wants large batches, and with them more pictures and a little more speed
ON_GPU = Recipe(
    shards=32, text_batch=1024, text_lr=4e-3, vae_batch=384, unet_batch=1024, unet_lr=4e-3,
    scorer_batch=1024, scorer_lr=4e-3, judge_shards=16, judge_trips=60_000, judge_batch=768,
)  # fmt: skip


class Paused(Exception):
    """The time of this command is up; what is done is saved, and the same command goes on."""


class Build:
    """A work folder, a device and the recipe; one method a stage."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        device: str = "cpu",
        workers: int = 2,
        deadline: float = math.inf,
        compile: bool = False,
    ):
        """`deadline`: of time.monotonic(), when to save and raise Paused; `compile`: networks by torch.compile."""
        self.folder, self.recipe, self.device = folder, recipe, torch.device(device)
        self.workers, self.deadline, self.compile = workers, deadline, compile
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        render_all(folder / "pictures", recipe.shards, workers, size=recipe.shard)
        self.pictures = Pictures(folder / "pictures", recipe.shards)
        self.tokenizer = self._tokenizer()
        self.ids = self._tokenize().to(self.device)
        self.rows = Rows(self.pictures.images, self.device)
        self.pairs = [2 * np.flatnonzero(self.pictures.labels[::2, 0] == c) for c in range(len(CLASSES))]
        # on a CPU the normalisation of channels-last groups is several times slower than what convolutions gain
        self.layout = torch.channels_last if self.device.type == "cuda" else torch.contiguous_format
        torch.backends.cudnn.benchmark = True

    # ---- words

    def _tokenizer(self) -> CLIPTokenizer:
        folder = self.folder / "tokenizer"
        if not (folder / "tokenizer.json").exists():
            networks.make_tokenizer(self.pictures.texts[: 60_000 * CAPTIONS], folder)
        return CLIPTokenizer.from_pretrained(folder)

    def _tokenize(self) -> torch.Tensor:
        """Token ids of every caption, int16 [pictures, CAPTIONS, length], made once."""
        path = self.folder / "ids.npy"
        if not path.exists():
            rows = []
            for k in tqdm(range(0, len(self.pictures.texts), 20_000), desc="tokenize", leave=False):
                rows.append(
                    self.tokenizer(
                        self.pictures.texts[k : k + 20_000],
                        padding="max_length",
                        truncation=True,
                        max_length=networks.TEXT_LENGTH,
                        return_tensors="np",
                    ).input_ids.astype(np.int16)
                )
            np.save(path.with_suffix(".part.npy"), np.concatenate(rows).reshape(len(self.pictures), CAPTIONS, -1))
            os.replace(path.with_suffix(".part.npy"), path)
        return torch.from_numpy(np.load(path))

    def _batch(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.integers(len(self.pictures), size=n)

    def _twins(self, rng: np.random.Generator, n: int, classes: int = 6) -> np.ndarray:
        """n / 2 pairs of neighbours, each an instance twice, of a few classes: strangers in a batch look alike."""
        chosen = self.pictures.labels[rng.integers(len(self.pictures), size=classes), 0]
        first = np.concatenate([rng.choice(self.pairs[c], len(part)) for c, part in
                                zip(chosen, np.array_split(np.arange(n // 2), classes))])  # fmt: skip
        return np.stack([first, first + 1], axis=1).ravel()

    def _images(self, index: np.ndarray) -> torch.Tensor:
        """Pictures as a model sees them: [n, 3, 64, 64] in [-1, 1]."""
        return (self.rows(index).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=self.layout)

    def _texts(self, index: np.ndarray, rng: np.random.Generator, drop_word: float = 0.0) -> torch.Tensor:
        """One caption of each picture; with a chance the one without the object's word."""
        which = np.where(rng.random(len(index)) < drop_word, CAPTIONS - 1, rng.integers(CAPTIONS - 1, size=len(index)))
        return self.ids[to_device(index, self.device), to_device(which, self.device)].long()

    def half(self) -> torch.autocast:
        """bfloat16 where the hardware has it natively; elsewhere it is emulated and slow."""
        able = self.device.type == "cuda" or fast_dtype(self.device) == torch.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=able)

    def compiled(self, network: Any) -> Any:
        """What to call in training; the parameters are the network's own."""
        return torch.compile(network) if self.compile else network

    def loop(self, stage: Stage, name: str, minutes: float, step: Step) -> None:
        """Steps until the time is up; a checkpoint a minute. The pictures of a step depend on its number alone."""
        start = saved = time.monotonic()
        before = stage.seconds
        bar = tqdm(desc=name, initial=stage.step, unit="step", mininterval=5)
        while (left := 60 * minutes - (time.monotonic() - start)) > 0 and time.monotonic() < self.deadline:
            loss, told = step(stream(name, self.recipe.seed, stage.step))
            stage.update(loss, rate=max(0.05, min(1.0, left / (60 * minutes * self.recipe.settle))))
            bar.update()
            if stage.step % 200 == 0 or self.device.type == "cpu":  # reading a number off a GPU makes it wait
                bar.set_postfix_str(_told(told), refresh=False)
            stage.seconds = before + time.monotonic() - start
            if time.monotonic() - saved > 60:
                stage.save()
                saved = time.monotonic()
                print(f"{name} step {stage.step} {stage.seconds / 60:.1f} min {_told(told)}", flush=True)
        stage.save()
        bar.close()
        if time.monotonic() >= self.deadline:
            raise Paused

    # ---- the text encoder: a contrastive loss against pictures, and one that keeps words apart

    def text_modules(self) -> dict[str, Any]:
        from open_clip.model import ModifiedResNet

        torch.manual_seed(self.recipe.seed + 1)
        width = networks.TEXT_WIDTH
        return {
            "text": _as_any(networks.make_text_encoder(self.tokenizer)).to(self.device),
            "look": ModifiedResNet([1, 1, 1, 1], width, 16, 64, 16).to(self.device, memory_format=self.layout),
            "project": torch.nn.Linear(width, width, bias=False).to(self.device),
            "own": torch.nn.Linear(width, len(self.tokenizer)).to(self.device),
        }

    def text(self, minutes: float) -> None:
        m = self.text_modules()
        stage = Stage(m, self.folder / "text.safetensors", lr=self.recipe.text_lr)
        m["look"].train()
        read, look = self.compiled(m["text"]), self.compiled(m["look"])

        def step(rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            index = self._batch(rng, self.recipe.text_batch)
            ids = self._texts(index, rng, 0.05)
            if self.device.type == "cpu":  # attention is causal: pads behind change nothing
                ids = ids[:, : int(_real(ids, self.tokenizer).sum(1).max())]
            with self.half():
                out = read(ids)
                seen = F.normalize(look(self._images(index) * 2), dim=-1)
                said = F.normalize(m["project"](out.pooler_output), dim=-1)
                own = m["own"](out.last_hidden_state)
            logits = 14 * said.float() @ seen.float().T
            same = torch.arange(len(index), device=self.device)
            clip = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
            own_word = ids.masked_fill(~_real(ids, self.tokenizer), -100)
            token = F.cross_entropy(own.float().flatten(0, 1), own_word.flatten(), ignore_index=-100)
            hit = (logits.argmax(1) == same).float().mean()
            return clip + self.recipe.own_token * token, {"clip": clip, "own": token, "hit": hit}

        self.loop(stage, "text", minutes, step)

    def text_encoder(self) -> Any:
        """The trained text encoder, averaged, frozen."""
        m = self.text_modules()
        Stage(m, self.folder / "text.safetensors", lr=1).use_average()
        return m["text"].eval().requires_grad_(False)

    # ---- the VAE

    def vae_module(self) -> Any:
        torch.manual_seed(self.recipe.seed + 2)
        return _as_any(networks.make_vae()).to(self.device).to(memory_format=self.layout)

    def vae(self, minutes: float) -> None:
        """Encoder and decoder; once there are latents, which the U-Net has learned from, the decoder alone."""
        vae = self.vae_module().train()
        stage = Stage({"vae": vae}, self.folder / "vae.safetensors", lr=self.recipe.vae_lr, weight_decay=0.0)
        if self._latents.exists():
            stage.use_average(("vae.encoder", "vae.quant_conv"))
            vae.encoder.requires_grad_(False)
            vae.quant_conv.requires_grad_(False)
        encoder, decoder = self.compiled(vae.encoder), self.compiled(vae.decoder)

        def step(rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            top, left = rng.integers(0, 65 - (crop := self.recipe.vae_crop), size=2)
            x = self._images(self._batch(rng, self.recipe.vae_batch))[..., top : top + crop, left : left + crop]
            x = x.contiguous(memory_format=self.layout)
            with self.half():
                posterior = DiagonalGaussianDistribution(vae.quant_conv(encoder(x)))
                y = decoder(vae.post_quant_conv(posterior.sample())).float()
            diff = y - x
            mse = diff.square().mean()
            edges = (diff[..., 1:, :] - diff[..., :-1, :]).abs().mean() + (diff[..., 1:] - diff[..., :-1]).abs().mean()
            kl = 0.5 * (posterior.mean.float().square() + posterior.var.float() - 1 - posterior.logvar.float()).mean()
            loss = diff.abs().mean() + 2 * mse + 0.25 * edges + self.recipe.kl * kl
            return loss, {"psnr": 10 * torch.log10(4 / mse), "kl": kl}

        self.loop(stage, "vae", minutes, step)

    def trained_vae(self) -> Any:
        vae = self.vae_module()
        Stage({"vae": vae}, self.folder / "vae.safetensors", lr=1).use_average()
        return vae.eval().requires_grad_(False)

    def latents(self) -> np.ndarray:
        """Means of the VAE's code of every picture, scaled to unit variance, float16, made once."""
        path = self._latents
        if not path.exists():
            vae = self.trained_vae()
            rows = []
            with torch.no_grad():
                for k in tqdm(range(0, len(self.pictures), 256), desc="latents", mininterval=5):
                    with self.half():
                        code = vae.encode(self._images(np.arange(k, min(k + 256, len(self.pictures))))).latent_dist.mean
                    rows.append(code.float().cpu().numpy().astype(np.float16))
            table = np.concatenate(rows)
            scale = 1 / float(table[:20_000].astype(np.float32).std())
            (self.folder / "scale.json").write_text(json.dumps(scale))
            np.save(path.with_suffix(".part.npy"), (table.astype(np.float32) * scale).astype(np.float16))
            os.replace(path.with_suffix(".part.npy"), path)
        return np.load(path, mmap_mode="r")

    @property
    def _latents(self) -> Path:
        return self.folder / "latents.npy"

    # ---- the U-Net

    def unet_module(self) -> Any:
        torch.manual_seed(self.recipe.seed + 3)
        return _as_any(networks.make_unet()).to(self.device).to(memory_format=self.layout)

    def unet(self, minutes: float) -> None:
        unet, text = self.unet_module().train(), self.text_encoder()
        stage = Stage({"unet": unet}, self.folder / "unet.safetensors", lr=self.recipe.unet_lr, decay=0.9995)
        latents = Rows([self.latents()], self.device)
        guesser, reader = self.compiled(unet), self.compiled(text)
        bars = _as_any(networks.make_scheduler()).alphas_cumprod.to(self.device)
        nothing = self.tokenizer(
            "", padding="max_length", max_length=networks.TEXT_LENGTH, return_tensors="pt"
        ).input_ids.to(self.device)

        def step(rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            index, n = self._batch(rng, self.recipe.unet_batch), self.recipe.unet_batch
            drop = to_device(rng.random(n) < self.recipe.drop_prompt, self.device)
            ids = torch.where(drop[:, None], nothing, self._texts(index, rng))
            g = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
            x = latents(index).float()
            noise = torch.randn(x.shape, generator=g, device=self.device)
            t = torch.randint(1000, (n,), generator=g, device=self.device)
            bar = bars[t][:, None, None, None]
            noisy = (bar.sqrt() * x + (1 - bar).sqrt() * noise).contiguous(memory_format=self.layout)
            with self.half():
                with torch.no_grad():
                    words = reader(ids).last_hidden_state
                guess = guesser(noisy, t, words).sample
            each = (guess.float() - noise).square().mean(dim=(1, 2, 3))
            snr = (bar / (1 - bar)).flatten()
            loss = (each * snr.clamp(max=self.recipe.snr_cap) / snr).mean()
            return loss, {"mse": each.mean(), "weighted": loss}

        self.loop(stage, "unet", minutes, step)

    def trained_unet(self) -> Any:
        unet = self.unet_module()
        Stage({"unet": unet}, self.folder / "unet.safetensors", lr=1).use_average()
        return unet.eval().requires_grad_(False)

    # ---- the scorers: an open_clip model each, with its own seed

    def scorer_module(self, name: str) -> Any:
        torch.manual_seed(self.recipe.seed + 10 + STAGES.index(name))
        scorer = _as_any(networks.make_scorer(name, len(self.tokenizer))).to(self.device)
        scorer.visual.to(memory_format=self.layout)
        return scorer

    def train_scorer(self, name: str, minutes: float) -> None:
        scorer = self.scorer_module(name).train()
        stage = Stage({"scorer": scorer}, self.folder / f"{name}.safetensors", lr=self.recipe.scorer_lr)
        look = self.compiled(scorer.visual)

        def step(rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            index = self._twins(rng, self.recipe.scorer_batch)
            ids = self._texts(index, rng, self.recipe.drop_word)
            x = _scorer_pixels(self._images(index))
            with self.half():
                seen = F.normalize(look(x), dim=-1).float()
                said = F.normalize(scorer.encode_text(ids), dim=-1).float()
            logits = scorer.logit_scale.exp().clamp(max=60) * said @ seen.T
            same = torch.arange(len(index), device=self.device)
            clip = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
            alike = 20 * seen @ seen.T
            alike.fill_diagonal_(-1e4)
            twin = F.cross_entropy(alike, same ^ 1)
            hit = (alike.argmax(1) == (same ^ 1)).float().mean()
            return clip + self.recipe.same_instance * twin, {"clip": clip, "twin": twin, "hit": hit}

        self.loop(stage, name, minutes, step)

    def scorer(self, minutes: float) -> None:
        self.train_scorer("scorer", minutes)

    def scorer2(self, minutes: float) -> None:
        self.train_scorer("scorer2", minutes)

    # ---- export

    def export(self, out: Path) -> None:
        """What there is, as `from_pretrained` opens it, float16."""
        from diffusers import StableDiffusionPipeline

        part = out.with_name(out.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        vae = self.trained_vae()
        vae.register_to_config(scaling_factor=json.loads((self.folder / "scale.json").read_text()))
        pipe: Any = StableDiffusionPipeline(
            vae=vae.cpu().half(),
            text_encoder=self.text_encoder().cpu().half(),
            tokenizer=self.tokenizer,
            unet=self.trained_unet().cpu().half(),
            scheduler=networks.make_scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipe.save_pretrained(part)
        stages = {name: spent(path) for name in (*STAGES, *JUDGES) if (path := self._file(name)).exists()}
        for name in (name for name in stages if name.startswith("scorer")):
            self._export_scorer(name, part)
        if all(name in stages for name in JUDGES):
            from benchmarks.miniature.training.judge_training import trained

            about = {"version": VERSION, "stages": {name: stages[name] for name in JUDGES}}
            write_judges({name: trained(self, name) for name in JUDGES}, part / FOLDER, about)
        record = {"version": VERSION, "recipe": asdict(self.recipe), "stages": stages, "device": self.device.type}
        record["hours"] = round(sum(stage["seconds"] + stage["elsewhere"] for stage in stages.values()) / 3600, 2)
        (part / "build.json").write_text(json.dumps(record, indent=1) + "\n")
        for path in part.rglob("*.safetensors"):
            path.chmod(0o644)  # safetensors keeps what it writes to its owner
        shutil.rmtree(out, ignore_errors=True)
        os.replace(part, out)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _export_scorer(self, name: str, part: Path) -> None:
        """In open_clip's layout."""
        from safetensors.torch import save_file

        scorer = self.scorer_module(name)
        Stage({"scorer": scorer}, self._file(name), lr=1).use_average()
        folder = part / name
        folder.mkdir()
        state = {k: v.detach().cpu().contiguous().half() for k, v in scorer.state_dict().items()}
        save_file(state, folder / "open_clip_model.safetensors")
        # open_clip looks for a local tokenizer beside the weights, whatever name stands here
        config = networks.SCORERS[name]
        text = {**config["text_cfg"], "vocab_size": len(self.tokenizer), "hf_tokenizer_name": "tokenizer"}
        config = {"model_cfg": {**config, "text_cfg": text}, "preprocess_cfg": networks.SCORER_PREPROCESS}
        (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1))
        shutil.copytree(part / "tokenizer", folder, dirs_exist_ok=True)

    def covariance(self, out: Path, captions: int = 20_000) -> None:
        """C of the exported text encoder over the training captions, by the ordinary code, beside the weights."""
        from perfusion_core.backbone import Backbone
        from perfusion_core.covariance import FILE, estimate

        backbone = Backbone.open(out, device=self.device)
        estimate(
            backbone, self.pictures.texts[::CAPTIONS], out / FILE, source="the miniature's captions", limit=captions
        )


def _real(ids: torch.Tensor, tokenizer: CLIPTokenizer) -> torch.Tensor:
    """Where a sequence is text: from the begin token to the first end token, pads left out."""
    ended = (ids == tokenizer.eos_token_id).int().cumsum(1)
    return (ended == 0) | ((ended == 1) & (ids == tokenizer.eos_token_id))


def _as_any(model: Any) -> Any:
    """The libraries' own types know less of these models than we do."""
    return model


def _scorer_pixels(x: torch.Tensor) -> torch.Tensor:
    """From [-1, 1] to the scorer's own normalisation."""
    mean, std = networks.SCORER_PREPROCESS["mean"][0], networks.SCORER_PREPROCESS["std"][0]
    return ((x + 1) / 2 - mean) / std


def _told(told: dict[str, torch.Tensor]) -> str:
    return " ".join(f"{name} {float(value.detach()):.4g}" for name, value in told.items())


def build(
    folder: Path,
    out: Path,
    recipe: Recipe,
    *,
    device: str,
    minutes: dict[str, float],
    workers: int | None = None,
    deadline: float = math.inf,
    compile: bool = False,
) -> None:
    """Every stage until it has had its minutes, in order, then the export with its C. Run again, it goes on."""
    from benchmarks.miniature.training import judge_training

    if time.monotonic() >= deadline:
        raise Paused
    workers = workers or os.cpu_count() or 2
    judge_training.render_all(
        folder / "judge", recipe.judge_shards, workers, recipe.shard
    )  # before a GPU is touched: it forks
    work = Build(folder, recipe, device, workers, deadline, compile)
    for name in (*STAGES, *JUDGES):
        left = minutes.get(name, 0) - spent(work._file(name))["seconds"] / 60
        if left * 60 < 1:
            continue
        if name in JUDGES:
            judge_training.train(work, name, left)
        else:
            getattr(work, name)(left)
    work.latents()
    work.export(out)
    work.covariance(out)
