"""The judges of what the miniature draws: factors, identity, segments. They never saw a training
picture of its models.

In: uint8 pictures [n, 64, 64, 3]. Out: names of factors, vectors of identity, masks.
judge_training.py trains them.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.miniature.training.training_data import FACTORS
from perfusion_core.errors import UserError
from perfusion_core.weight_digests import file_sha256

FOLDER, ABOUT = "judges", "judges.json"
JUDGES = ("factors", "identity", "segment")
IDENTITY = 26  # numbers of Instance.vector()
# what is read off a picture of one thing; `other` is for pictures of two
JUDGED = {name: values for name, values in FACTORS.items() if name != "other"}


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // 16, channels)


class Residual(nn.Module):
    """Two 3 x 3 convolutions and a short cut."""

    def __init__(self, before: int, after: int, stride: int = 1):
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([_norm(after), _norm(after)])
        same = before == after and stride == 1
        self.short = nn.Identity() if same else nn.Conv2d(before, after, stride, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(y)) + self.short(x))


class FactorJudge(nn.Module):
    """One small residual network, a head for every factor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 48, 4, 2, 1, bias=False), _norm(48), nn.ReLU())
        self.body = nn.Sequential(
            Residual(48, 48), Residual(48, 80, 2), Residual(80, 112, 2), Residual(112, 112, 2)
        )  # 32, 16, 8, 4 pixels
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * 112, len(values)) for name, values in JUDGED.items()}
        )

    def features(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(self.stem(x))
        return torch.cat([y.mean((2, 3)), y.amax((2, 3))], dim=1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.features(x)
        return {name: head(y) for name, head in self.heads.items()}


class IdentityJudge(nn.Module):
    """Plain convolutions whose features are averaged where a learned map says that the thing is.

    Trained by a pairwise logistic loss, and to tell the instance's own numbers (colours, pattern,
    shape), which the world knows; the scorers are CLIP networks trained by softmax over a batch.
    """

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        sizes = (3, 32, 64, 96, 128, 128)
        for number, (before, after) in enumerate(pairwise(sizes)):
            layers += [
                nn.Conv2d(before, after, 3, 2 if number in (0, 2, 4) else 1, 1, bias=False),
                _norm(after)
                if number > 1
                else nn.Identity(),  # it would take the colours' level away
                nn.SiLU(),
            ]
        self.body = nn.Sequential(*layers)  # 64 -> 8 pixels
        self.where = nn.Conv2d(128, 4, 1)
        self.vector = nn.Linear(256, width)
        self.mix = nn.Sequential(nn.Linear(4 * (128 + 3), 256), nn.SiLU())
        self.tell = nn.Linear(256, IDENTITY)  # for training
        self.scale, self.bias = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(-2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.both(x)[0]

    def both(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors, and the instance's numbers as they are guessed."""
        y = self.body(x)
        weight = self.where(y).flatten(2).softmax(-1)  # [n, 4, positions]
        # what is there, and its plain colour
        seen = torch.cat([y, F.avg_pool2d(x, 8).to(y.dtype)], dim=1)
        mixed = self.mix((weight @ seen.flatten(2).transpose(1, 2)).flatten(1))
        return F.normalize(self.vector(mixed), dim=-1), self.tell(mixed)


class SegmentJudge(nn.Module):
    """A small hourglass with short cuts: the logit of 'this pixel is the thing'."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [Residual(3, 16), Residual(16, 32, 2), Residual(32, 48, 2), Residual(48, 80, 2)]
        )
        self.up = nn.ModuleList(
            [Residual(80 + 48, 48), Residual(48 + 32, 32), Residual(32 + 16, 16)]
        )
        self.out = nn.Conv2d(16, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = []
        for layer in self.down:
            x = layer(x)
            seen.append(x)
        for layer, before in zip(self.up, reversed(seen[:-1])):
            x = layer(
                torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), before], dim=1)
            )
        return self.out(x)[:, 0]


def make_judge(name: str) -> nn.Module:
    return {"factors": FactorJudge, "identity": IdentityJudge, "segment": SegmentJudge}[name]()


def as_input(pictures: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """uint8 [n, 64, 64, 3] to what judges see: [n, 3, 64, 64] in about [-2, 2]."""
    pixels = torch.from_numpy(np.ascontiguousarray(pictures)).to(device)
    return pixels.permute(0, 3, 1, 2).float() / 63.75 - 2


@dataclass(frozen=True)
class Judges:
    """All three, trained."""

    networks: dict[str, nn.Module]
    device: torch.device
    about: dict

    @torch.inference_mode()
    def _each(self, see: Callable[[torch.Tensor], Any], pictures: np.ndarray) -> list:
        return [
            see(as_input(pictures[k : k + 128], self.device)) for k in range(0, len(pictures), 128)
        ]

    def factors(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        """{factor: names [n]}; "none" where there is none."""
        rows = self._each(self.networks["factors"], pictures)
        return {
            name: np.array(values)[torch.cat([row[name] for row in rows]).argmax(1).cpu().numpy()]
            for name, values in JUDGED.items()
        }

    def features(self, pictures: np.ndarray) -> np.ndarray:
        """What the judge of factors makes of pictures before it names anything, [n, d]: for
        distances between sets.
        """
        judge = self.networks["factors"]
        assert isinstance(judge, FactorJudge)
        return torch.cat(self._each(judge.features, pictures)).float().cpu().numpy()

    def identity(self, pictures: np.ndarray) -> np.ndarray:
        """Unit vectors [n, d]; the cosine of two says whether they show one instance."""
        return torch.cat(self._each(self.networks["identity"], pictures)).float().cpu().numpy()

    @property
    def same(self) -> float:
        """The cosine from which on two pictures rather show one instance than two."""
        judge = self.networks["identity"]
        assert isinstance(judge, IdentityJudge)
        return float(-judge.bias / judge.scale.exp())

    def segment(self, pictures: np.ndarray) -> np.ndarray:
        """Masks of the thing, bool [n, 64, 64]."""
        return (torch.cat(self._each(self.networks["segment"], pictures)) > 0).cpu().numpy()


def write_judges(networks: dict[str, nn.Module], folder: Path, about: dict) -> None:
    """float16 safetensors, one a judge, and how they were made."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name, network in networks.items():
        state = {k: v.detach().cpu().half().contiguous() for k, v in network.state_dict().items()}
        save_file(state, folder / f"{name}.safetensors")
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def judges_digest(weights: Path) -> str:
    named = "".join(file_sha256(weights / FOLDER / f"{name}.safetensors") for name in JUDGES)
    return hashlib.sha256(named.encode()).hexdigest()


def open_judges(weights: Path, device: str = "cpu") -> Judges:
    """The judges that lie in a folder of weights, in float32."""
    from safetensors.torch import load_file

    folder = weights / FOLDER
    networks: dict[str, nn.Module] = {}
    for name in JUDGES:
        path = folder / f"{name}.safetensors"
        if not path.is_file():
            raise UserError(
                f"there is no {path}: these weights have no judges; `perfbench miniature build` "
                f"trains them"
            )
        network = make_judge(name)
        try:
            network.load_state_dict({k: v.float() for k, v in load_file(path).items()})
        except RuntimeError as error:
            raise UserError(
                f"{path} is of another version of the judges; build it again: perfbench miniature "
                f"build"
            ) from error
        networks[name] = network.to(device).eval().requires_grad_(False)
    return Judges(
        networks, torch.device(device), json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    )
