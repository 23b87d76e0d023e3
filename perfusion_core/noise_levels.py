"""How noise is mixed into latents in training, and what a model says of it. In: a scheduler's
configuration. Out: `Levels`.

Stable Diffusion and PixArt: x_t = sqrt(a) x + sqrt(1 - a) eps, and the model predicts eps or v.
Sana is trained by flow matching: x_t = (1 - sigma) x + sigma eps, and the model predicts eps - x.
"""

from dataclasses import dataclass
from typing import Any

import torch

FLOW = "flow_prediction"


@dataclass(frozen=True)
class Levels:
    """Every level of noise that training draws from, all alike often."""

    signal: torch.Tensor  # [T], of the latents
    noise: torch.Tensor  # [T]
    times: torch.Tensor  # [T], what the model is told
    predicts: str  # "epsilon", "v_prediction" or FLOW

    def __len__(self) -> int:
        return len(self.times)

    def noisy(self, latents: torch.Tensor, noise: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """x_t; at: the level of each row."""
        return column(self.signal[at]) * latents + column(self.noise[at]) * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """What the model should say of x_t."""
        if self.predicts == FLOW:
            return noise - latents
        if self.predicts == "v_prediction":
            return column(self.signal[at]) * noise - column(self.noise[at]) * latents
        return noise


def column(numbers: torch.Tensor) -> torch.Tensor:
    """One number a row of [n, c, h, w]."""
    return numbers.view(-1, 1, 1, 1)


def is_flow(scheduler: Any) -> bool:
    """Whether a model with this scheduler was trained by flow matching."""
    flowing = type(scheduler).__name__.startswith("FlowMatch")
    return flowing or scheduler.config.get("prediction_type") == FLOW


def flow_shift(scheduler: Any) -> float:
    """How far levels are shifted towards noise, which higher resolutions need."""
    config = scheduler.config
    return float(config.get("flow_shift", config.get("shift", 1.0)))


def levels_of(scheduler: Any, device: torch.device) -> Levels:
    """Of what `Backbone.scheduler` makes."""
    if is_flow(scheduler):
        steps = int(scheduler.config.num_train_timesteps)
        even, shift = torch.arange(1, steps + 1) / steps, flow_shift(scheduler)
        sigma = shift * even / (1 + (shift - 1) * even)
        sigma = sigma.to(device)
        return Levels(1 - sigma, sigma, sigma * steps, FLOW)
    alphas = scheduler.alphas_cumprod.to(device)
    times = torch.arange(len(alphas), device=device)
    kind = str(scheduler.config.prediction_type)
    return Levels(alphas.sqrt(), (1 - alphas).sqrt(), times, kind)
