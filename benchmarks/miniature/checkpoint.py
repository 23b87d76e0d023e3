"""A training stage on disk: model, moving average, optimizer and step in one safetensors file, written aside and renamed."""

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file


class Stage:
    """A model in training: AdamW with warm-up, a moving average of its weights, resumable from one file."""

    def __init__(self, modules: dict[str, torch.nn.Module], path: Path, *, lr: float, decay: float = 0.999, weight_decay: float = 0.01):
        self.path, self.lr, self.decay, self.step, self.seconds = path, lr, decay, 0, 0.0
        self.params = {f"{m}.{n}": p for m, module in modules.items() for n, p in module.named_parameters() if p.requires_grad}
        self.buffers = {f"{m}.{n}": b for m, module in modules.items() for n, b in module.named_buffers() if b.is_floating_point() and "running" in n}
        self.ema = {n: p.detach().clone() for n, p in self.params.items()}
        self.optimizer = torch.optim.AdamW(self.params.values(), lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay)
        if path.exists():
            self._load()

    def update(self, loss: torch.Tensor, warmup: int = 300, clip: float = 1.0) -> None:
        """One step on a loss; the average follows."""
        if not torch.isfinite(loss):
            raise RuntimeError(f"the loss is {loss.item()} at step {self.step} of {self.path.stem}: lower the learning rate")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.params.values()), clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * min(1.0, (self.step + 1) / warmup)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        keep = min(self.decay, (1 + self.step) / (10 + self.step))
        names = list(self.params)
        torch._foreach_lerp_([self.ema[n] for n in names], [self.params[n].detach() for n in names], 1 - keep)

    def save(self) -> None:
        tensors = {f"model/{n}": p.detach().contiguous() for n, p in self.params.items()}
        tensors |= {f"buffer/{n}": b.detach().clone().contiguous() for n, b in self.buffers.items()}
        tensors |= {f"ema/{n}": e for n, e in self.ema.items()}
        for n, p in self.params.items():
            state = self.optimizer.state.get(p)
            if state:
                tensors[f"m/{n}"], tensors[f"v/{n}"] = state["exp_avg"], state["exp_avg_sq"]
        part = self.path.with_suffix(".part")
        save_file({k: t.contiguous().cpu() for k, t in tensors.items()}, part, {"step": str(self.step), "seconds": json.dumps(self.seconds)})
        os.replace(part, self.path)

    def _load(self) -> None:
        with safe_open(self.path, "pt") as f, torch.no_grad():
            meta = f.metadata()
            self.step, self.seconds = int(meta["step"]), json.loads(meta["seconds"])
            for n, p in self.params.items():
                p.copy_(f.get_tensor(f"model/{n}"))
                self.ema[n].copy_(f.get_tensor(f"ema/{n}"))
            for n, b in self.buffers.items():
                b.copy_(f.get_tensor(f"buffer/{n}"))
            names = set(f.keys())
            for n, p in self.params.items():
                if f"m/{n}" in names:
                    self.optimizer.state[p] = {
                        "step": torch.tensor(float(self.step)),
                        "exp_avg": f.get_tensor(f"m/{n}").to(p.device),
                        "exp_avg_sq": f.get_tensor(f"v/{n}").to(p.device),
                    }

    def use_average(self) -> None:
        """Put the averaged weights into the model (for export and measuring; training continues from a fresh Stage)."""
        with torch.no_grad():
            for n, p in self.params.items():
                p.copy_(self.ema[n])
