"""The noise-prediction loop that every method shares: parameter groups and batches in, trained
tensors and a log out.

A method hands in what differs: its pictures and texts (`draw`), how texts become encodings
(`encode`), `save`.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import mse_loss

from perfusion_core.backbone import Backbone, channels_last
from perfusion_core.checkpoint import Checkpoint
from perfusion_core.denoisers import predicted
from perfusion_core.errors import UserError
from perfusion_core.latents import Latents as Latents
from perfusion_core.memory import Halving
from perfusion_core.noise_levels import Levels, levels_of
from perfusion_core.plain_attention import plain_layers, plainly
from perfusion_core.validation import Diverged as Diverged
from perfusion_core.validation import Looks
from perfusion_core.validation import Validation as Validation
from perfusion_core.validation import Write as Write

Progress = Callable[[int, int, float], None]
Begin = Callable[[int, torch.optim.Optimizer], None]
Term = Callable[[float], torch.Tensor]


@dataclass(frozen=True)
class Recipe:
    """What the loop itself needs to know of a method."""

    steps: int
    accumulate: int = 1  # micro-batches an optimizer step
    prior_weight: float = 1.0
    weight_decay: float = 0.0
    clip: float | None = None  # norm of the gradient
    checkpointing: bool = False  # recompute the U-Net's activations: less memory, a third more time


@dataclass(frozen=True)
class Batch:
    """One micro-batch; the last `prior` rows are class images, whose loss is weighted by
    Recipe.prior_weight.
    """

    latents: torch.Tensor  # [n, c, h, w]
    texts: list[str]
    mask: torch.Tensor | None = None  # [n, 1, h, w], weight of each position
    prior: int = 0
    sizes: torch.Tensor | None = None  # [n, 6], what `Backbone.added` tells of each; None: whole


def equal_parts(batch: int, parts: int) -> int:
    """How many rows each part of a batch has."""
    if batch % parts:
        raise UserError(
            f"a batch of {batch} cannot be split into {parts} equal parts; choose an accumulate "
            f"that divides the batch"
        )
    return batch // parts


# The loop


@dataclass
class Log:
    """What goes to fit.json."""

    losses: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    best: tuple[int, float] | None = None  # step, score
    seconds: float = 0.0
    images: int = 0

    def summary(self, steps: int, device: torch.device) -> dict[str, Any]:
        return {
            "steps": self.best[0] if self.best else steps,
            "steps_run": steps,
            "score": self.best[1] if self.best else None,
            "losses": self.losses,
            "validation": self.validation,
            "seconds": self.seconds,
            "images_per_second": self.images / self.seconds if self.seconds else 0.0,
            "peak_memory_bytes": torch.cuda.max_memory_allocated(device)
            if device.type == "cuda"
            else None,
        }


def train(
    backbone: Backbone,
    recipe: Recipe,
    groups: Sequence[dict[str, Any]],
    draw: Callable[[torch.Generator], Batch],
    encode: Callable[[list[str]], torch.Tensor],
    *,
    seed: int,
    out: Path,
    save: Callable[[Path], None],
    unet: Any = None,
    prepare: Callable[[torch.Tensor], None] = lambda encodings: None,
    state: dict[str, torch.Tensor] | None = None,
    current: Callable[[], AbstractContextManager[Write]] | None = None,
    validate: Validation | None = None,
    keep: Iterable[int] = (),
    progress: Progress | None = None,
    pooled: Callable[[list[str]], torch.Tensor] | None = None,
    begin: Begin | None = None,
    end: Begin | None = None,
    term: Term | None = None,
    masks: Callable[[list[str]], torch.Tensor] | None = None,
) -> dict[str, Any]:
    """The loop that every method shares; -> what goes to fit.json, with how many numbers it trained
    (`trainable`). One seed fixes everything; an interrupted training goes on from the checkpoint in
    `out`.

    Args:
        recipe: steps, micro-batches, weight of the class images, clipping, gradient checkpointing.
        groups: parameters for AdamW, `[{"params": [float32 tensors], "lr": ...}]`.
        draw: the next micro-batch; called `recipe.accumulate` times a step.
        encode: texts -> encodings [n, M, d]; called once a step with all its texts, gradient flows
            through it.
        save: writes the method's own files into a folder.
        unet: another one than the backbone's, for a method that trains all of it.
        prepare: called with the encodings before each U-Net call.
        state: tensors changed in place besides the parameters; all that changes has to be named,
            for checkpoints.
        current: a context that puts the present state in place and gives `write`; needed with
            `validate`.
        validate: what picks the best step; without it the last step is saved.
        keep: steps whose state is also saved under `out/step-<n>/`.
        progress: called with step, steps and loss after each step.
        pooled: texts -> pooled text [n, p], of texts that were just encoded; needed where the
            U-Net reads such. Without it, `encode.pooled` is asked, where there is one.
        begin: called before each step with its number and the optimizer, by a method in stages. A
            parameter that gets no gradient stays as it is.
        end: called after each step likewise, before anything looks at its state or saves it.
        term: a term of the loss beside the error of the noise, asked for after each U-Net call with
            the share of the micro-batch's rows that it saw.
        masks: texts -> which tokens count [n, M]; needed where a transformer asks.
    """
    pooled = pooled or getattr(encode, "pooled", None)
    if backbone.text.joint and pooled is None:
        raise UserError(
            f"the backbone {backbone.name!r} reads pooled text beside its cross-attentions, and "
            f"this method gives it none; use another method there"
        )
    if backbone.text.behind and masks is None:
        raise UserError(
            f"the backbone {backbone.name!r} has a transformer that asks which tokens are text, "
            f"and this method does not tell it; use the method perfusion there"
        )
    unet = backbone.unet if unet is None else unet
    parameters = [p for group in groups for p in group["params"]]
    optimizer = torch.optim.AdamW(
        groups, betas=(0.9, 0.999), weight_decay=recipe.weight_decay, fused=True
    )
    scaler = torch.amp.GradScaler(backbone.device.type, enabled=backbone.dtype == torch.float16)
    rng = torch.Generator().manual_seed(seed)
    levels = levels_of(backbone.scheduler(), backbone.device)
    out.mkdir(parents=True, exist_ok=True)
    log, keep = Log(), frozenset(keep)
    checkpoint = Checkpoint(out, parameters, optimizer, rng, state or {}, scaler)
    first = checkpoint.resume(log)
    halving = Halving(unet, optimizer, rng, state or {})
    assert not validate or current, "validation needs to know how to draw with the present state"
    looks = Looks(backbone, validate, current, log, out, save) if validate and current else None
    attentions = plain_layers(unet, backbone.device)
    if backbone.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(backbone.device)
    started, before = time.monotonic(), log.seconds
    with checkpointed(unet, recipe.checkpointing):
        for step in range(first + 1, recipe.steps + 1):
            if begin:
                begin(step, optimizer)
            batches = [draw(rng) for _ in range(recipe.accumulate)]
            rows = max(len(batch.texts) for batch in batches)
            attempt = partial(
                one_step,
                backbone,
                unet,
                recipe,
                batches,
                encode,
                prepare,
                levels,
                rng,
                scaler,
                pooled=pooled,
                term=term,
                masks=masks,
            )
            with plainly(attentions):
                loss = halving.step(rows, attempt)
            if not math.isfinite(loss):
                raise Diverged(hint(loss, step, groups, backbone.dtype))
            if recipe.clip is not None:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
            scaler.step(optimizer)
            scaler.update()
            if end:
                end(step, optimizer)
            log.losses.append(loss)
            log.images += sum(len(batch.texts) for batch in batches)
            log.seconds = before + time.monotonic() - started
            if progress:
                progress(step, recipe.steps, loss)
            if step in keep:
                save(out / f"step-{step}")
            if looks and (step % looks.validate.every == 0 or step == recipe.steps):
                looks.look(step)
            if looks and checkpoint.due:  # what waits is not in it
                looks.judge()
            checkpoint.save(step, log)
    if looks:
        looks.finish()
    log.seconds = before + time.monotonic() - started
    if not validate:
        save(out)
    checkpoint.remove()
    # of a micro-batch: memory did not suffice for it
    split = {"parts": halving.parts} if halving.parts > 1 else {}
    trainable = {"trainable": sum(parameter.numel() for parameter in parameters)}
    return log.summary(recipe.steps, backbone.device) | trainable | split


def one_step(
    backbone: Backbone,
    unet: Any,
    recipe: Recipe,
    batches: list[Batch],
    encode: Callable[[list[str]], torch.Tensor],
    prepare: Callable[[torch.Tensor], None],
    levels: Levels,
    rng: torch.Generator,
    scaler: Any,
    parts: int = 1,
    pooled: Callable[[list[str]], torch.Tensor] | None = None,
    term: Term | None = None,
    masks: Callable[[list[str]], torch.Tensor] | None = None,
) -> float:
    """Gradients of one optimizer step -> the mean loss of its micro-batches, each computed in
    `parts`.

    The text encoder runs once for all: each takes its rows as a leaf, and what they gather goes
    back in one sweep.
    """
    encodings = encode([text for batch in batches for text in batch.texts])
    total, gathered, ends = 0.0, [], []
    for batch, part in zip(batches, encodings.split([len(batch.texts) for batch in batches])):
        leaf = part.detach().requires_grad_(encodings.requires_grad)
        told = pooled(batch.texts) if pooled else None
        beside = None if told is None else told.detach().requires_grad_(told.requires_grad)
        counts = masks(batch.texts) if masks else None
        for share in batch_losses(
            backbone, unet, recipe, batch, leaf, prepare, levels, rng, parts, beside, term, counts
        ):
            loss = share / len(batches)
            scaler.scale(loss).backward()
            total += loss.item()
        gathered.append(leaf.grad)
        if told is not None and beside is not None and told.requires_grad:
            ends.append((told, beside.grad))
    if encodings.requires_grad:
        ends.insert(0, (encodings, torch.cat(gathered)))
    if ends:
        outputs, gradients = zip(*ends)
        torch.autograd.backward(outputs, gradients)
    return total


def batch_losses(
    backbone: Backbone,
    unet: Any,
    recipe: Recipe,
    batch: Batch,
    encodings: torch.Tensor,
    prepare: Callable[[torch.Tensor], None],
    levels: Levels,
    rng: torch.Generator,
    parts: int,
    pooled: torch.Tensor | None = None,
    term: Term | None = None,
    text_mask: torch.Tensor | None = None,
) -> Iterator[torch.Tensor]:
    """Noise the latents, predict, compare: the loss, or the shares of it that `parts` of the batch
    have.
    """
    latents, device = batch.latents.to(backbone.device), backbone.device
    noise = torch.randn(latents.shape, generator=rng).to(device)
    at = torch.randint(len(levels), (len(latents),), generator=rng).to(device)
    noisy, target = levels.noisy(latents, noise, at), levels.target(latents, noise, at)
    t = levels.times[at]
    for rows in torch.arange(len(latents)).chunk(parts):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        some = encodings if parts == 1 else encodings[part]
        with torch.autocast(device.type, backbone.dtype, enabled=backbone.dtype != torch.float32):
            prepare(some)
            told = backbone.added(
                None if pooled is None else pooled[part],
                mask=None if text_mask is None else text_mask[part],
                sizes=None if batch.sizes is None else batch.sizes[part],
            )
            x = channels_last(noisy[part].to(unet.dtype))
            found = predicted(unet, x, t[part], encoder_hidden_states=some, **told)
        mask = None if batch.mask is None else batch.mask[part]
        if parts == 1:
            loss = weighted_loss(found.float(), target, mask, batch.prior, recipe.prior_weight)
        else:
            weights = row_weights(len(latents), batch.prior, recipe.prior_weight)[part].to(device)
            loss = (
                weights * squared_error(found.float(), target[part], mask).flatten(1).mean(1)
            ).sum()
        yield loss if term is None else loss + term(len(rows) / len(latents))


def row_weights(rows: int, prior: int, prior_weight: float) -> torch.Tensor:
    """[rows], of each row's mean error in the batch's loss."""
    weights = torch.full((rows,), 1.0 / (rows - prior))
    if prior:
        weights[-prior:] = prior_weight / prior
    return weights


def squared_error(
    predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    if mask is None:
        return mse_loss(predicted, target, reduction="none")
    return mask.to(predicted) * (predicted - target) ** 2


def weighted_loss(
    predicted: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor | None,
    prior: int,
    prior_weight: float,
) -> torch.Tensor:
    """Mean of mask * error^2 over rows, channels and positions, not divided by the mask's sum;
    class images apart.
    """
    error = squared_error(predicted, target, mask)
    if not prior:
        return error.mean()
    return error[:-prior].mean() + prior_weight * error[-prior:].mean()


@contextmanager
def checkpointed(unet: Any, wanted: bool) -> Iterator[None]:
    """Gradient checkpointing for the duration; the U-Net's own setting afterwards."""
    was = unet.is_gradient_checkpointing
    if wanted and not was:
        unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if unet.is_gradient_checkpointing and not was:
            unet.disable_gradient_checkpointing()


def hint(loss: float, step: int, groups: Sequence[dict[str, Any]], dtype: torch.dtype) -> str:
    rates = ", ".join(f"{group['lr']:g}" for group in groups)
    other = "" if dtype == torch.float32 else ", or train in float32"
    return f"the loss is {loss} at step {step}; lower the learning rate (now {rates}){other}"


def bar(label: str, batch: int = 1) -> Progress:
    """A progress bar with the loss and images a second, for one training of `batch` images a step;
    none in a log.
    """
    from tqdm import tqdm

    shown: list[Any] = []

    def progress(step: int, steps: int, loss: float) -> None:
        if not shown:
            shown.append(
                tqdm(
                    total=steps * batch,
                    initial=(step - 1) * batch,
                    desc=label,
                    unit=" images",
                    disable=None,
                )
            )
        shown[0].set_postfix(step=step, loss=f"{loss:.4f}", refresh=False)
        shown[0].update(batch)
        if step == steps:
            shown[0].close()

    return progress
