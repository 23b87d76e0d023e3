"""Weights in which some instances have names, and weights trained alike without them: the two arms
of a trial (docs/experiments.md has the rule, benchmarks/evidence/names_trial.py runs it).

In: a folder of finished weights, a work folder, minutes. Out: a backbone folder an arm; both go on
from the same U-Net, for the same time of one core, over the same pictures, noise and timesteps.

New words get rows behind the old ones. Tokens of all other text stay, and so do its encodings: only
the new rows learn, by two losses of the text encoder's own training. Names are told apart from
pictures by a contrastive loss, because own tokens alone would give every name a place that says
nothing of its looks: CLIP's names lie where looks put them. Unused words see no picture.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import AddedToken
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.disk import Locks
from benchmarks.miniature.training import networks
from benchmarks.miniature.training.hyperparameters import Recipe
from benchmarks.miniature.training.names import NAMED, PLAIN, NamedPictures, Names
from benchmarks.miniature.training.onwards import go_on, take_words, words_of
from benchmarks.miniature.training.scorer_training import scorer_input
from benchmarks.miniature.training.stage import Stage
from benchmarks.miniature.training.structure import text_encoder, unet_from
from benchmarks.miniature.training.text_encoder import SCALE, is_text
from benchmarks.miniature.training.training_data import Rows, write_array
from benchmarks.miniature.training.unet import DECAY, guessing
from benchmarks.miniature.training.vae import (
    LATENTS,
    codes_from,
    latent_scale,
    latents,
    trained_vae,
)
from benchmarks.miniature.training.weights_export import copied_weights, export_covariance
from benchmarks.miniature.training.workshop import Loss, Workshop, token_ids
from benchmarks.miniature.world.instance import stream
from benchmarks.miniature.world.language import RARE
from perfusion_core.errors import UserError

ARMS = (NAMED, PLAIN)
SHARE = 0.25  # of a batch, pictures of instances that have a name; four fifths of these say it
# looks: the second scorer's, which tunes and selects; the reported one has no part in it
EYES = "scorer2"
SPREAD = 0.02  # of a new row's numbers around the rare words' mean, as a text encoder begins
UNUSED = 0.25  # captions more, as many as that share of a batch, that say unused words
CHANGED = ("text_encoder", "tokenizer", "unet", "covariance.safetensors")
# 40,000 pictures, those that the second world's own models see; batches for one core of a CPU
RECIPE = Recipe(shards=4, unet_batch=64, unet_lr=2e-3, settle=0.6, text_batch=128)


class NamedWorkshop(Workshop):
    """A workshop whose batches have a share of pictures of instances that have a name. An index
    beyond the pool's pictures is one of theirs; `version`: what is said of these. What others may
    share lies in `folder`, what is the trial's alone in `own`."""

    def __init__(
        self, folder: Path, own: Path, recipe: Recipe, names: Names, version: str, **more: Any
    ):
        super().__init__(folder, recipe, **more)
        self.own, self.names, self.first = own, names, len(self.pictures)
        self.theirs = NamedPictures(own / "pictures", names, self.workers)
        self.plain_words = self.tokenizer
        self.tokenizer = with_words(folder / "tokenizer", names.words())
        ids = token_ids(own / f"{version}.ids.npy", self.tokenizer, self.theirs.said[version])
        self.ids = torch.cat([self.ids[: self.first], ids.to(self.device)])
        self.rows = Rows([*self.pictures.images, *self.theirs.images], self.device)

    def file(self, name: str) -> Path:
        return (
            self.folder / "vae.safetensors" if name == "vae" else self.own / f"{name}.safetensors"
        )

    def batch(self, rng: np.random.Generator, n: int) -> np.ndarray:
        named = round(SHARE * n)
        pool = rng.integers(self.first, size=n - named)
        # timesteps are spread over a batch by place
        return rng.permutation(np.concatenate([pool, self.some_named(rng, named)]))

    def some_named(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return self.first + rng.integers(len(self.theirs), size=n)


def with_words(folder: Path, words: list[str]) -> CLIPTokenizer:
    """A tokenizer that has these words as well, one piece each. Ids of all others stay: new words
    come behind the end token, and text without them falls into the same pieces."""
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    before = len(tokenizer)
    taken = [word for word in words if len(tokenizer.tokenize(word)) == 1]
    assert not taken, f"{taken[0]} is a word already"
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])
    assert tokenizer.convert_tokens_to_ids(words) == [before + k for k in range(len(words))]
    return tokenizer


def named_latents(shop: NamedWorkshop) -> np.ndarray:
    """As `latents`, of the pictures of named instances, by the scale of all others."""
    path, scale = shop.own / LATENTS, latent_scale(shop)
    if not path.exists():
        end = shop.first + len(shop.theirs)
        table = codes_from(shop, trained_vae(shop), shop.first, end)
        write_array(path, (table.astype(np.float32) * scale).astype(np.float16))
    return np.load(path, mmap_mode="r")


# ---- the new words


class MoreWords(nn.Module):
    """An embedding table that has more rows: the old ones stay, the new ones may learn."""

    def __init__(self, old: nn.Embedding, new: torch.Tensor):
        super().__init__()
        self.old = old.requires_grad_(False)
        self.embedding = nn.Embedding.from_pretrained(new.clone(), freeze=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        n = self.old.num_embeddings
        old, new = self.old(ids.clamp(max=n - 1)), self.embedding((ids - n).clamp(min=0))
        return torch.where((ids < n)[..., None], old, new)

    def table(self) -> torch.Tensor:
        return torch.cat([self.old.weight, self.embedding.weight]).detach().clone()


def first_rows(old: nn.Embedding, tokenizer: CLIPTokenizer, n: int) -> torch.Tensor:
    """Where new words begin: around the mean of the rare words that mean nothing."""
    rare = old.weight[tokenizer.convert_tokens_to_ids([f"{word}</w>" for word in RARE])].detach()
    g = torch.Generator().manual_seed(int(stream("rows of names").integers(2**62)))
    return rare.mean(0) + SPREAD * torch.randn(n, rare.shape[1], generator=g)


def word_modules(shop: NamedWorkshop, weights: Path) -> tuple[Any, dict[str, nn.Module]]:
    """The text encoder with more words, and what learns: these, and two heads that only training
    needs."""
    text: Any = text_encoder(weights)
    assert text.config.vocab_size == len(shop.plain_words)
    old, words = text.get_input_embeddings(), shop.names.words()
    more = MoreWords(old, first_rows(old, shop.plain_words, len(words)))
    text.set_input_embeddings(more)
    shop.seed(7)
    width = networks.TEXT_WIDTH
    project = nn.Linear(width, networks.SCORERS[EYES]["embed_dim"], bias=False)
    own = nn.Linear(width, len(shop.tokenizer))
    return text, {"words": more, "project": project, "own": own}


def teach_words(shop: NamedWorkshop, weights: Path, minutes: float) -> None:
    """Rows of the new words: what names look like, and every word another."""
    text, m = word_modules(shop, weights)
    stage = Stage(m, shop.file("words"), lr=shop.recipe.text_lr)
    if (left := minutes - stage.seconds / 60) * 60 < 1:
        return
    looks = looks_of(shop, weights)
    first, spare = len(shop.plain_words), shop.names.count
    names, n = len(shop.names.words()), shop.recipe.text_batch

    def step(rng: np.random.Generator) -> Loss:
        # Captions, some again with words that no picture has.
        index = shop.some_named(rng, n)
        ids = shop.texts(index, rng)
        ids = ids[:, : int(is_text(ids, shop.tokenizer).sum(1).max())]
        again = ids[: round(UNUSED * n)]
        words = torch.from_numpy(first + rng.integers(spare, names, size=(len(again), 1)))
        ids = torch.cat([ids, torch.where(again >= first, words, again)])
        out = text(ids)
        # Contrastive loss, both ways; the pictures' side is finished.
        said = F.normalize(m["project"](out.pooler_output[:n]), dim=-1)
        logits = SCALE * said @ looks[index - shop.first].T  # [batch, batch]
        same = torch.arange(n)
        clip = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
        # Every position, its token.
        own_word = ids.masked_fill(~is_text(ids, shop.tokenizer), -100)
        guess = m["own"](out.last_hidden_state).flatten(0, 1)
        token = F.cross_entropy(guess, own_word.flatten(), ignore_index=-100)
        new = own_word.flatten() >= first
        hit = (guess.argmax(1) == own_word.flatten())[new].float().mean()
        return clip + shop.recipe.own_token * token, {"clip": clip, "own": token, "hit": hit}

    shop.loop(stage, "words", left, step)


@torch.no_grad()
def looks_of(shop: NamedWorkshop, weights: Path, chunk: int = 256) -> torch.Tensor:
    """Unit features of all pictures of named instances [n, d]."""
    numbers = load_file(weights / EYES / "open_clip_model.safetensors")
    eyes: Any = networks.make_scorer(EYES, len(numbers["token_embedding.weight"]))
    eyes.load_state_dict({key: value.float() for key, value in numbers.items()})
    eyes.eval()
    parts = []
    for k in range(0, len(shop.theirs), chunk):
        index = shop.first + np.arange(k, min(k + chunk, len(shop.theirs)))
        parts.append(F.normalize(eyes.visual(scorer_input(shop.images(index))), dim=-1))
    return torch.cat(parts)


def named_text(shop: NamedWorkshop, weights: Path) -> CLIPTextModel:
    """The text encoder with its new rows, as it is saved; nothing else of it differs."""
    text, m = word_modules(shop, weights)
    Stage(m, shop.file("words"), lr=1).use_average()
    table = m["words"].table()  # type: ignore[operator]
    text.set_input_embeddings(nn.Embedding.from_pretrained(table, freeze=True))
    text.config.vocab_size = len(table)
    return text.eval().requires_grad_(False)


@torch.no_grad()
def closeness(
    before: CLIPTextModel, after: CLIPTextModel, ids: torch.Tensor, ids_after: torch.Tensor
) -> float:
    """The least cosine of the encodings of captions in two text encoders, each with its own ids."""
    pairs = list(zip(ids.split(64), ids_after.split(64), strict=True))
    parts = [
        F.cosine_similarity(
            before(one).last_hidden_state, after(other).last_hidden_state, dim=-1
        ).min()
        for one, other in tqdm(pairs, desc="encodings before and after", leave=False)
    ]
    return float(torch.stack(parts).min())


# ---- the arms


def prepare(
    work: Path, own: Path, weights: Path, names: Names, minutes: float, recipe: Recipe
) -> None:
    """What both arms need: pictures, words, latents, and the rows of the new words."""
    take_words(weights, work)
    refuse_other_words(work, weights)
    shop = NamedWorkshop(work, own, recipe, names, NAMED)
    go_on(shop, weights, ["vae"])
    refuse_others(shop, weights)
    latents(shop)
    named_latents(shop)
    teach_words(shop, weights, minutes)


def refuse_other_words(work: Path, weights: Path) -> None:
    """Before a caption is read by another tokenizer, whose ids would stay."""
    if words_of(work) != words_of(weights):
        raise other_work(work, weights)


def other_work(work: Path, weights: Path) -> UserError:
    return UserError(
        f"{work} is the work folder of other weights than {weights}; name another --work"
    )


def refuse_others(shop: NamedWorkshop, weights: Path) -> None:
    """A work folder whose VAE is not that of the weights."""
    mine = trained_vae(shop).half().state_dict()
    theirs = load_file(weights / "vae" / "diffusion_pytorch_model.safetensors")
    shared = [name for name in theirs if name in mine and mine[name].shape == theirs[name].shape]
    alike = all(torch.equal(mine[name].cpu(), theirs[name].half()) for name in shared)
    if not alike:
        raise other_work(shop.folder, weights)


def train_arm(
    arm: str,
    out: Path,
    work: Path,
    own: Path,
    weights: Path,
    names: Names,
    minutes: float,
    recipe: Recipe,
) -> None:
    """Train what is missing of an arm's minutes on one core, and export it."""
    if not Locks(own).try_lock(arm):  # a process that outlived its command
        raise UserError(
            f"another process trains {out}; wait until it has ended, then give the command again"
        )
    torch.set_num_threads(1)
    shop = NamedWorkshop(work, own, recipe, names, arm, clock=time.process_time)
    text = named_text(shop, weights) if arm == NAMED else text_encoder(weights)
    unet = unet_from(weights)
    stage = Stage({"unet": unet.train()}, shop.file(f"unet-{arm}"), lr=recipe.unet_lr, decay=DECAY)
    codes = Rows([latents(shop)[: shop.first], named_latents(shop)], shop.device)
    if (left := minutes - stage.seconds / 60) * 60 >= 1:
        # one name: a step's pictures, noise and timesteps are those of the other arm
        shop.loop(stage, "unet", left, guessing(shop, unet, text, codes))
    stage.use_average()
    about = {"arm": arm, "steps": stage.step, "seconds": round(stage.seconds), "share": SHARE}
    changed = CHANGED if arm == NAMED else ("unet",)
    with copied_weights(weights, out, changed, names=about) as part:
        unet.half().save_pretrained(part / "unet")
        if arm == NAMED:
            text.half().save_pretrained(part / "text_encoder")
            shop.tokenizer.save_pretrained(part / "tokenizer")
            export_covariance(shop, part)
