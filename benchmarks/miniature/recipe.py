"""The recipe: from nothing to the miniature's weights, in stages that can be stopped and run again.

    pictures -> tokenizer -> text encoder -> VAE -> latents -> U-Net -> scorer -> scorer2 -> export

In: a work folder and how long each stage may take; out: the folder `weights` in diffusers layout. One seed.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm
from transformers import CLIPTokenizer

from benchmarks.miniature import models
from benchmarks.miniature.checkpoint import Stage
from benchmarks.miniature.data import CAPTIONS, Pictures, render_all
from benchmarks.miniature.instance import stream

VERSION = 1
STAGES = ("text", "vae", "unet", "scorer", "scorer2")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, but the time they are given."""

    shards: int = 20  # of 10,000 pictures
    seed: int = 0
    text_batch: int = 192
    text_lr: float = 1e-3
    own_token: float = 1.0  # weight of the loss that keeps words apart: every position predicts its own token
    vae_batch: int = 64
    vae_crop: int = 32  # the VAE learns from crops: four times the variety for the same work
    vae_lr: float = 8e-4
    kl: float = 1e-5
    unet_batch: int = 96
    unet_lr: float = 8e-4
    drop_prompt: float = 0.1
    snr_cap: float = 5.0  # min-SNR weighting of the noise loss
    scorer_batch: int = 192
    scorer_lr: float = 1e-3
    same_instance: float = 0.5  # weight of the loss that pulls two pictures of one instance together
    drop_word: float = 0.15  # captions of the scorer without the object's word, as the text metric writes them


class Build:
    """A work folder, a device and the recipe; one method a stage."""

    def __init__(self, folder: Path, recipe: Recipe, device: str = "cpu", workers: int = 2):
        self.folder, self.recipe, self.device = folder, recipe, torch.device(device)
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        render_all(folder / "pictures", recipe.shards, workers)
        self.pictures = Pictures(folder / "pictures", recipe.shards)
        self.tokenizer = self._tokenizer()
        self.ids = self._tokenize()

    # ---- words

    def _tokenizer(self) -> CLIPTokenizer:
        folder = self.folder / "tokenizer"
        if not (folder / "merges.txt").exists():
            models.make_tokenizer(self.pictures.texts[: 60_000 * CAPTIONS], folder)
        return CLIPTokenizer.from_pretrained(folder)

    def _tokenize(self) -> torch.Tensor:
        """Token ids of every caption, int16 [pictures, CAPTIONS, length], made once."""
        path = self.folder / "ids.npy"
        if not path.exists():
            rows = []
            for k in tqdm(range(0, len(self.pictures.texts), 20_000), desc="tokenize", leave=False):
                rows.append(self.tokenizer(self.pictures.texts[k : k + 20_000], padding="max_length", truncation=True, max_length=models.TEXT_LENGTH, return_tensors="np").input_ids.astype(np.int16))
            np.save(path.with_suffix(".part.npy"), np.concatenate(rows).reshape(len(self.pictures), CAPTIONS, -1))
            os.replace(path.with_suffix(".part.npy"), path)
        return torch.from_numpy(np.load(path))

    def _batch(self, rng: np.random.Generator, n: int, pairs: bool = False) -> np.ndarray:
        """Indices of n pictures; with `pairs`, n / 2 neighbours, so that each instance is there twice."""
        if not pairs:
            return rng.integers(len(self.pictures), size=n)
        first = rng.integers(len(self.pictures) // 2, size=n // 2) * 2
        return np.stack([first, first + 1], axis=1).ravel()

    def _images(self, index: np.ndarray) -> torch.Tensor:
        """Pictures as a model sees them: [n, 3, 64, 64] in [-1, 1]."""
        pixels = torch.from_numpy(self.pictures.image(index)).to(self.device)
        return (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).to(memory_format=torch.channels_last)

    def _texts(self, index: np.ndarray, rng: np.random.Generator, drop_word: float = 0.0) -> torch.Tensor:
        """One caption of each picture; with a chance the one without the object's word."""
        which = np.where(rng.random(len(index)) < drop_word, CAPTIONS - 1, rng.integers(CAPTIONS - 1, size=len(index)))
        return self.ids[torch.from_numpy(index), torch.from_numpy(which)].long().to(self.device)

    def _half(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16)

    def _loop(self, stage: Stage, name: str, minutes: float, step: Callable[[np.random.Generator], tuple[torch.Tensor, str]]) -> None:
        """Steps until the time is up; a checkpoint a minute. The pictures of a step depend on its number alone."""
        start = saved = time.monotonic()
        before = stage.seconds
        bar = tqdm(desc=name, initial=stage.step, unit="step", mininterval=5)
        while time.monotonic() - start < 60 * minutes:
            loss, note = step(stream(name, self.recipe.seed, stage.step))
            stage.update(loss)
            bar.update()
            bar.set_postfix_str(note, refresh=False)
            stage.seconds = before + time.monotonic() - start
            if time.monotonic() - saved > 60:
                stage.save()
                saved = time.monotonic()
                print(f"{name} step {stage.step} {stage.seconds / 60:.1f} min {note}", flush=True)
        stage.save()
        bar.close()

    # ---- the text encoder: a contrastive loss against pictures, and one that keeps words apart

    def text_modules(self) -> dict[str, torch.nn.Module]:
        from open_clip.model import ModifiedResNet

        torch.manual_seed(self.recipe.seed + 1)
        width = models.TEXT_WIDTH
        return {
            "text": models.make_text_encoder(self.tokenizer).to(self.device),
            "look": ModifiedResNet([1, 1, 1, 1], width, 16, 64, 16).to(self.device),
            "project": torch.nn.Linear(width, width, bias=False).to(self.device),
            "own": torch.nn.Linear(width, len(self.tokenizer)).to(self.device),
        }

    def text(self, minutes: float) -> None:
        m = self.text_modules()
        stage = Stage(m, self.folder / "text.safetensors", lr=self.recipe.text_lr)
        m["look"].to(memory_format=torch.channels_last).train()

        def step(rng: np.random.Generator) -> tuple[torch.Tensor, str]:
            index = self._batch(rng, self.recipe.text_batch)
            ids = self._texts(index, rng, 0.05)
            ids = ids[:, : int(_real(ids, self.tokenizer).sum(1).max())]  # attention is causal: pads behind change nothing
            with self._half():
                out = m["text"](ids)
                seen = F.normalize(m["look"](self._images(index) * 2), dim=-1)
                said = F.normalize(m["project"](out.pooler_output), dim=-1)
                own = m["own"](out.last_hidden_state)
            logits = 14 * said.float() @ seen.float().T
            same = torch.arange(len(index), device=self.device)
            clip = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
            real = _real(ids, self.tokenizer)
            token = F.cross_entropy(own.float()[real], ids[real])
            hit = (logits.argmax(1) == same).float().mean()
            return clip + self.recipe.own_token * token, f"clip {clip:.3f} own {token:.4f} hit {hit:.2f}"

        self._loop(stage, "text", minutes, step)

    def text_encoder(self) -> torch.nn.Module:
        """The trained text encoder, averaged, frozen."""
        m = self.text_modules()
        Stage(m, self.folder / "text.safetensors", lr=1).use_average()
        return m["text"].eval().requires_grad_(False)

    # ---- the VAE

    def vae_module(self) -> torch.nn.Module:
        torch.manual_seed(self.recipe.seed + 2)
        return models.make_vae().to(self.device).to(memory_format=torch.channels_last)

    def vae(self, minutes: float) -> None:
        vae = self.vae_module().train()
        stage = Stage({"vae": vae}, self.folder / "vae.safetensors", lr=self.recipe.vae_lr, weight_decay=0.0)

        def step(rng: np.random.Generator) -> tuple[torch.Tensor, str]:
            top, left = rng.integers(0, 65 - (crop := self.recipe.vae_crop), size=2)
            x = self._images(self._batch(rng, self.recipe.vae_batch))[..., top : top + crop, left : left + crop]
            x = x.contiguous(memory_format=torch.channels_last)
            with self._half():
                posterior = vae.encode(x).latent_dist
                y = vae.decode(posterior.sample()).sample.float()
            diff = y - x
            mse = diff.square().mean()
            edges = (diff[..., 1:, :] - diff[..., :-1, :]).abs().mean() + (diff[..., 1:] - diff[..., :-1]).abs().mean()
            kl = 0.5 * (posterior.mean.float().square() + posterior.var.float() - 1 - posterior.logvar.float()).mean()
            loss = diff.abs().mean() + 2 * mse + 0.25 * edges + self.recipe.kl * kl
            return loss, f"psnr {10 * torch.log10(4 / mse):.2f} kl {kl:.2f}"

        self._loop(stage, "vae", minutes, step)

    def trained_vae(self) -> torch.nn.Module:
        vae = self.vae_module()
        Stage({"vae": vae}, self.folder / "vae.safetensors", lr=1).use_average()
        return vae.eval().requires_grad_(False)

    def latents(self) -> np.ndarray:
        """Means of the VAE's code of every picture, scaled to unit variance, float16, made once."""
        path = self.folder / "latents.npy"
        if not path.exists():
            vae = self.trained_vae()
            rows = []
            with torch.no_grad():
                for k in tqdm(range(0, len(self.pictures), 256), desc="latents", mininterval=5):
                    with self._half():
                        code = vae.encode(self._images(np.arange(k, min(k + 256, len(self.pictures))))).latent_dist.mean
                    rows.append(code.float().cpu().numpy().astype(np.float16))
            table = np.concatenate(rows)
            scale = 1 / float(table[:20_000].astype(np.float32).std())
            (self.folder / "scale.json").write_text(json.dumps(scale))
            np.save(path.with_suffix(".part.npy"), (table.astype(np.float32) * scale).astype(np.float16))
            os.replace(path.with_suffix(".part.npy"), path)
        return np.load(path, mmap_mode="r")

    # ---- the U-Net

    def unet_module(self) -> torch.nn.Module:
        torch.manual_seed(self.recipe.seed + 3)
        return models.make_unet().to(self.device).to(memory_format=torch.channels_last)

    def unet(self, minutes: float) -> None:
        unet, text = self.unet_module().train(), self.text_encoder()
        stage = Stage({"unet": unet}, self.folder / "unet.safetensors", lr=self.recipe.unet_lr, decay=0.9995)
        latents = self.latents()
        bars = models.make_scheduler().alphas_cumprod.to(self.device)
        nothing = self.tokenizer("", padding="max_length", max_length=models.TEXT_LENGTH, return_tensors="pt").input_ids.to(self.device)

        def step(rng: np.random.Generator) -> tuple[torch.Tensor, str]:
            index = self._batch(rng, self.recipe.unet_batch)
            ids = self._texts(index, rng)
            ids[torch.from_numpy(rng.random(len(index)) < self.recipe.drop_prompt)] = nothing
            x = torch.from_numpy(latents[np.sort(index)][np.argsort(np.argsort(index))]).to(self.device).float()
            noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32)).to(self.device)
            t = torch.from_numpy(rng.integers(1000, size=len(index))).to(self.device)
            bar = bars[t][:, None, None, None]
            noisy = (bar.sqrt() * x + (1 - bar).sqrt() * noise).to(memory_format=torch.channels_last)
            with self._half():
                with torch.no_grad():
                    words = text(ids).last_hidden_state
                guess = unet(noisy, t, words).sample
            each = (guess.float() - noise).square().mean(dim=(1, 2, 3))
            snr = (bar / (1 - bar)).flatten()
            loss = (each * snr.clamp(max=self.recipe.snr_cap) / snr).mean()
            return loss, f"mse {each.mean():.4f} weighted {loss:.4f}"

        self._loop(stage, "unet", minutes, step)

    def trained_unet(self) -> torch.nn.Module:
        unet = self.unet_module()
        Stage({"unet": unet}, self.folder / "unet.safetensors", lr=1).use_average()
        return unet.eval().requires_grad_(False)

    # ---- the scorers: an open_clip model each, with its own seed

    def scorer_module(self, name: str) -> torch.nn.Module:
        torch.manual_seed(self.recipe.seed + 10 + STAGES.index(name))
        return models.make_scorer(len(self.tokenizer)).to(self.device)

    def train_scorer(self, name: str, minutes: float) -> None:
        scorer = self.scorer_module(name).train()
        scorer.visual.to(memory_format=torch.channels_last)
        stage = Stage({"scorer": scorer}, self.folder / f"{name}.safetensors", lr=self.recipe.scorer_lr)

        def step(rng: np.random.Generator) -> tuple[torch.Tensor, str]:
            index = self._batch(rng, self.recipe.scorer_batch, pairs=True)
            ids = self._texts(index, rng, self.recipe.drop_word)
            x = _scorer_pixels(self._images(index))
            with self._half():
                seen = F.normalize(scorer.encode_image(x), dim=-1).float()
                said = F.normalize(scorer.encode_text(ids), dim=-1).float()
            logits = scorer.logit_scale.exp().clamp(max=60) * said @ seen.T
            same = torch.arange(len(index), device=self.device)
            clip = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
            alike = 10 * seen @ seen.T
            alike.fill_diagonal_(-1e4)
            twin = F.cross_entropy(alike, same ^ 1)
            hit = (alike.argmax(1) == (same ^ 1)).float().mean()
            return clip + self.recipe.same_instance * twin, f"clip {clip:.3f} twin {twin:.3f} hit {hit:.2f}"

        self._loop(stage, name, minutes, step)

    def scorer(self, minutes: float) -> None:
        self.train_scorer("scorer", minutes)

    def scorer2(self, minutes: float) -> None:
        self.train_scorer("scorer2", minutes)

    # ---- export

    def export(self, out: Path) -> None:
        """What there is, as `from_pretrained` opens it, float16."""
        from diffusers import StableDiffusionPipeline
        from safetensors.torch import save_file

        part = out.with_name(out.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        vae = self.trained_vae()
        vae.register_to_config(scaling_factor=json.loads((self.folder / "scale.json").read_text()))
        pipe = StableDiffusionPipeline(
            vae=vae, text_encoder=self.text_encoder(), tokenizer=self.tokenizer, unet=self.trained_unet(),
            scheduler=models.make_scheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
        pipe.to("cpu", torch.float16).save_pretrained(part)
        spent = {}
        for name in STAGES:
            path = self.folder / f"{name}.safetensors"
            if not path.exists():
                continue
            module = {"scorer": self.scorer_module(name)} if name.startswith("scorer") else None
            if module:
                stage = Stage(module, path, lr=1)
                stage.use_average()
                spent[name] = {"steps": stage.step, "seconds": round(stage.seconds)}
                folder = part / name
                folder.mkdir()
                state = {k: v.detach().contiguous().half() for k, v in module["scorer"].state_dict().items()}
                save_file(state, folder / "open_clip_model.safetensors")
                text = {**models.SCORER_CONFIG["text_cfg"], "vocab_size": len(self.tokenizer)}
                config = {"model_cfg": {**models.SCORER_CONFIG, "text_cfg": text}, "preprocess_cfg": models.SCORER_PREPROCESS}
                (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1))
                shutil.copytree(part / "tokenizer", folder / "tokenizer")
            else:
                from safetensors import safe_open

                with safe_open(path, "pt") as f:
                    meta = f.metadata()
                spent[name] = {"steps": int(meta["step"]), "seconds": round(json.loads(meta["seconds"]))}
        record = {"version": VERSION, "recipe": asdict(self.recipe), "stages": spent, "device": self.device.type}
        (part / "build.json").write_text(json.dumps(record, indent=1) + "\n")
        shutil.rmtree(out, ignore_errors=True)
        os.replace(part, out)


def _real(ids: torch.Tensor, tokenizer: CLIPTokenizer) -> torch.Tensor:
    """Where a sequence is text: from the begin token to the first end token, pads left out."""
    ended = (ids == tokenizer.eos_token_id).int().cumsum(1)
    return (ended == 0) | ((ended == 1) & (ids == tokenizer.eos_token_id))


def _scorer_pixels(x: torch.Tensor) -> torch.Tensor:
    """From [-1, 1] to the scorer's own normalisation."""
    mean, std = models.SCORER_PREPROCESS["mean"][0], models.SCORER_PREPROCESS["std"][0]
    return ((x + 1) / 2 - mean) / std


def build(folder: Path, out: Path, *, device: str, minutes: dict[str, float], recipe: Recipe = Recipe(), workers: int = 2) -> None:
    """Every stage for its minutes, in order, then the export."""
    work = Build(folder, recipe, device, workers)
    for name in STAGES:
        if minutes.get(name, 0) > 0:
            getattr(work, name)(minutes[name])
    work.latents()
    work.export(out)
