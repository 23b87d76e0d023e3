"""An interrupted training goes on: parameters, optimizer, random state and log in one safetensors
file.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from perfusion_core.files import write_tensors

FILE = "checkpoint.safetensors"
SECONDS = 20.0  # between two of them, so that a training that is killed every minute still ends
RAREST = 120.0  # where writing one takes long: it may cost two hundredths of the time
# parameters: a whole U-Net would be 10 GB each time; such a training starts again
LARGEST = 10**8


@dataclass
class Checkpoint:
    folder: Path
    parameters: Sequence[torch.Tensor]
    optimizer: torch.optim.Optimizer
    rng: torch.Generator
    state: Mapping[str, torch.Tensor]
    scaler: Any
    seconds: float = SECONDS
    last: float = field(default_factory=time.monotonic)
    cost: float = 0.0  # seconds that the last one took

    @property
    def path(self) -> Path:
        return self.folder / FILE

    @property
    def wait(self) -> float:
        """Seconds to the next one, by what the last one took."""
        return self.seconds * max(1.0, min(50 * self.cost, RAREST) / SECONDS)

    @property
    def due(self) -> bool:
        """Whether it is time for one."""
        return (
            time.monotonic() - self.last >= self.wait
            and sum(p.numel() for p in self.parameters) <= LARGEST
        )

    def save(self, step: int, log: Any) -> None:
        """When it is time; `log` is a dataclass of plain numbers."""
        if not self.due:
            return
        tensors = {f"parameter.{n}": p for n, p in enumerate(self.parameters)}
        tensors |= {f"state.{name}": tensor for name, tensor in self.state.items()}
        tensors["rng"] = self.rng.get_state()
        for n, p in enumerate(self.parameters):
            for name, value in self.optimizer.state[p].items():
                tensors[f"optimizer.{n}.{name}"] = value
        begun = time.monotonic()
        text = json.dumps({"step": step, "log": vars(log), "scaler": self.scaler.state_dict()})
        write_tensors(self.path, tensors, {"training": text})
        self.last = time.monotonic()
        self.cost = self.last - begun

    def resume(self, log: Any) -> int:
        """-> the step that was done last, 0 where there is nothing to go on from (or it does not
        fit).
        """
        try:
            with safe_open(self.path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                training = json.loads(file.metadata()["training"])
        except (FileNotFoundError, SafetensorError):
            return 0
        shapes = {f"parameter.{n}": p.shape for n, p in enumerate(self.parameters)}
        if {
            name: t.shape for name, t in tensors.items() if name.startswith("parameter.")
        } != shapes:
            return 0
        with torch.no_grad():
            for n, p in enumerate(self.parameters):
                p.copy_(tensors[f"parameter.{n}"])
                head = f"optimizer.{n}."
                self.optimizer.state[p] = {
                    name.removeprefix(head): laid_out_as(p, tensor)
                    for name, tensor in tensors.items()
                    if name.startswith(head)
                }
            for name, tensor in self.state.items():
                tensor.copy_(tensors[f"state.{name}"])
        self.rng.set_state(tensors["rng"])
        self.scaler.load_state_dict(training["scaler"])
        log.__dict__.update(training["log"])
        log.validation = [tuple(pair) for pair in log.validation]
        log.best = tuple(log.best) if log.best else None
        return int(training["step"])

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def laid_out_as(parameter: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
    """A moment in the order in which its parameter lies in memory: a fused step takes both as they
    lie. The count of steps is a single number.
    """
    if moment.shape != parameter.shape:
        return moment.to(parameter.device)
    return torch.empty_like(parameter, dtype=moment.dtype).copy_(moment)
