"""A training stage on disk: model, moving average, optimizer and step in one safetensors file,
written aside.

A file with the averages alone (what carry.py packs) is enough to go on from: the optimizer then
warms up again.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.disk import written_whole
from benchmarks.miniature.training.muon import Muon, split_parameters

REST = 0.25  # AdamW's rate beside Muon's
MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}


class Stage:
    """A model in training: Muon and AdamW with warm-up, a moving average of its weights, resumable
    from one file.
    """

    def __init__(
        self,
        modules: dict[str, torch.nn.Module],
        path: Path,
        *,
        lr: float,
        decay: float = 0.998,
        weight_decay: float = 0.01,
    ):
        self.path, self.lr, self.decay, self.step, self.seconds = path, lr, decay, 0, 0.0
        self.cold = 0  # the step at which the optimizer knew nothing: the warm-up counts from there
        self.elsewhere = 0.0  # seconds on other machines, before carry.py brought the averages here
        self.last: torch.Tensor | None = None
        self.params = {
            f"{m}.{n}": p
            for m, module in modules.items()
            for n, p in module.named_parameters()
            if p.requires_grad
        }
        self.buffers = {
            f"{m}.{n}": b
            for m, module in modules.items()
            for n, b in module.named_buffers()
            if b.is_floating_point() and "running" in n
        }
        self.ema = {n: p.detach().clone() for n, p in self.params.items()}
        self.fused = all(p.device.type == "cuda" for p in self.params.values())
        matrices, rest = split_parameters(self.params)
        self.matrices = set(matrices)  # tensors are told apart by identity
        self.muon = Muon(matrices, lr, weight_decay=weight_decay) if matrices else None
        self.adam = torch.optim.AdamW(
            rest, lr=REST * lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=self.fused
        )
        if path.exists():
            self._load()

    def update(
        self, loss: torch.Tensor, warmup: int = 100, clip: float = 1.0, rate: float = 1.0
    ) -> None:
        """One step on a loss; the average follows. `rate` scales the learning rate."""
        self.last = loss.detach()
        # asking a GPU for a number makes it wait
        if loss.device.type == "cpu" or self.step % 200 == 0:
            self.check()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.params.values()), clip)
        rate *= self.lr * min(1.0, (self.step - self.cold + 1) / warmup)
        for optimizer, share in ((self.muon, 1.0), (self.adam, REST)):
            if optimizer:
                for group in optimizer.param_groups:
                    group["lr"] = share * rate
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        self.step += 1
        keep = min(self.decay, (1 + self.step) / (10 + self.step))
        names = list(self.params)
        torch._foreach_lerp_(
            [self.ema[n] for n in names], [self.params[n].detach() for n in names], 1 - keep
        )

    def check(self) -> None:
        """A loss that is no number spoils all weights for good, so it is found before anything is
        saved.
        """
        if self.last is not None and not torch.isfinite(self.last):
            raise RuntimeError(
                f"the loss is {self.last.item()} at step {self.step} of {self.path.stem}: lower "
                f"the learning rate"
            )

    def save(self) -> None:
        self.check()
        tensors = {f"model/{n}": p.detach() for n, p in self.params.items()}
        tensors |= {f"buffer/{n}": b.detach() for n, b in self.buffers.items()}
        tensors |= {f"ema/{n}": e for n, e in self.ema.items()}
        for n, p in self.params.items():
            state = self._state(p)
            tensors |= {
                f"{short}/{n}": state[name] for short, name in MOMENTS.items() if name in state
            }
        meta = {"step": str(self.step), "seconds": json.dumps(self.seconds), "cold": str(self.cold)}
        meta["elsewhere"] = json.dumps(self.elsewhere)
        with written_whole(self.path) as aside:
            save_file({k: t.contiguous().cpu().clone() for k, t in tensors.items()}, aside, meta)

    def _load(self) -> None:
        with safe_open(self.path, "pt") as f, torch.no_grad():
            meta, names = f.metadata(), set(f.keys())
            self.step, self.seconds = int(meta["step"]), json.loads(meta["seconds"])
            self.cold, self.elsewhere = (
                int(meta.get("cold", 0)),
                json.loads(meta.get("elsewhere", "0")),
            )
            for n, p in self.params.items():
                p.copy_(f.get_tensor(f"model/{n}" if f"model/{n}" in names else f"ema/{n}"))
                self.ema[n].copy_(f.get_tensor(f"ema/{n}"))
            for n, b in self.buffers.items():
                b.copy_(f.get_tensor(f"buffer/{n}"))
            if not any(name.startswith("m/") for name in names):
                self.cold = self.step
                return
            for n, p in self.params.items():
                state = self._state(p)
                for short, name in MOMENTS.items():
                    # in the parameter's own memory layout, as the fused optimizer insists
                    if f"{short}/{n}" in names:
                        state[name] = torch.empty_like(p).copy_(f.get_tensor(f"{short}/{n}"))
                if "exp_avg_sq" in state:
                    done = float(self.step - self.cold)
                    state["step"] = torch.tensor(done, device=p.device if self.fused else "cpu")

    def _state(self, p: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the optimizer of this parameter remembers of it."""
        mine = self.adam if self.muon is None or p not in self.matrices else self.muon
        return mine.state[p]

    def use_average(self, of: tuple[str, ...] = ("",)) -> None:
        """Put the averaged weights (those whose name begins so) into the model: for export,
        measuring, and parts that learn no more; what learns on goes on from a fresh Stage."""
        with torch.no_grad():
            for n, p in self.params.items():
                if n.startswith(of):
                    p.copy_(self.ema[n])


def spent(path: Path) -> dict[str, float]:
    """Steps and seconds (here, and on other machines) of the stage whose file this is; zeros where
    there is none.
    """
    if not path.exists():
        return {"steps": 0, "seconds": 0, "elsewhere": 0}
    with safe_open(path, "pt") as f:
        meta = f.metadata()
    seconds = {name: round(json.loads(meta.get(name, "0"))) for name in ("seconds", "elsewhere")}
    return {"steps": int(meta["step"]), **seconds}
