"""The edit of a K or V projection, Eq. 1 to 4 and Appendices A, B, D: pure functions, then the
modules that use them.

e: encodings [..., M, d]; i_star [J, d]; o_star [J, d_out]; W [d_out, d]; C^-1 [d, d]. Everything in
the C^-1 metric is float64: strongly related i_star cancel to many digits, and it costs J columns
beside the projection's thousands.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from perfusion_core.errors import UserError

Gate = Callable[[torch.Tensor], torch.Tensor]
Number = float | Sequence[float] | torch.Tensor
ALIKE = 1e-4  # |R_jj| / |R_11| below which 1e-9 of noise in i_star moves the output by a quarter


@dataclass(frozen=True)
class Basis:
    """What Eq. 4 needs of the concepts; the same for all layers, since all see the same
    encodings.
    """

    sim: torch.Tensor  # [d, J]: e @ sim = sim(i_star_j, e) / ||i_star_j||^2
    u: torch.Tensor  # [J, d]: orthonormal in the C^-1 metric, spanning the i_star
    sim_u: torch.Tensor  # [d, J]: e @ sim_u = sim(u_j, e)


def linear_gate(ratio: torch.Tensor) -> torch.Tensor:
    """No gate: with bias 0 and temperature 1, Eq. 3 is then Eq. 2, the output of ROME's edited
    layer.
    """
    return ratio


def concept_basis(i_star: torch.Tensor, c_inv: torch.Tensor, names: Sequence[str] = ()) -> Basis:
    """Appendix B; nearly equal concepts are refused by name."""
    i_star, c_inv = i_star.double(), c_inv.to(i_star.device).double()
    c_i = i_star @ c_inv  # [J, d], C^-1 is symmetric
    energy = (c_i * i_star).sum(-1, keepdim=True)  # [J, 1], ||i_star||^2
    if len(i_star) == 1:  # B.1: u = i_star / ||i_star||
        u = i_star / energy.sqrt()
    else:
        root = torch.linalg.cholesky((c_inv + c_inv.T) / 2)  # C^-1 = L L^T
        q, r = torch.linalg.qr(root.T @ i_star.T)  # columns: the i_star in the metric space, Eq. 6
        refuse_alike(r, names)
        u = torch.linalg.solve_triangular(root.T, q, upper=True).T  # u_j = L^T^-1 u~_j
    return Basis(sim=(c_i / energy).T, u=u, sim_u=(u @ c_inv).T)


def refuse_alike(r: torch.Tensor, names: Sequence[str]) -> None:
    left = r.diagonal().abs()
    worst = int(left.argmin())
    if left[worst] < ALIKE * left[0]:
        # r = Q^T i~: the metric's dot products
        cosines = (r[:, :worst].T @ r[:, worst]) / r[:, :worst].norm(dim=0)
        other = int(cosines.abs().argmax())
        first, second = (repr(names[j]) if names else f"number {j + 1}" for j in (other, worst))
        raise UserError(
            f"concepts {first} and {second} are nearly the same to the text encoder and cannot "
            f"share a prompt; "
            "load one of them, or fit one again with another super-category"
        )


def split(
    encodings: torch.Tensor,
    basis: Basis,
    bias: Number,
    temperature: Number,
    gate: Gate = torch.sigmoid,
) -> tuple[torch.Tensor, torch.Tensor]:
    """-> e orthogonal to all concepts [..., M, d] (Eq. 10), in e's dtype; gates [..., M, J],
    float32 or better.
    """
    with torch.autocast(encodings.device.type, enabled=False):
        e = encodings.double()
        beta, tau = as_row(bias, e), as_row(temperature, e)
        gates = gate((e @ basis.sim - beta) / tau)  # the gate's argument is divided by tau ...
        orthogonal = e - (e @ basis.sim_u) @ basis.u  # ... the removed component is not gated
        exact = encodings.dtype if encodings.dtype == torch.float64 else torch.float32
        return orthogonal.to(encodings.dtype), gates.to(exact)


def as_row(value: Number, like: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def project(
    orthogonal: torch.Tensor, gates: torch.Tensor, weight: torch.Tensor, o_star: torch.Tensor
) -> torch.Tensor:
    """Eq. 4 of one layer: W e_orthogonal + sum_j o_star_j gate_j."""
    # in autocast's dtype, where there is autocast
    kept = linear(orthogonal.to(weight.dtype), weight)
    with torch.autocast(orthogonal.device.type, enabled=False):
        return kept + (gates @ o_star.to(gates)).to(kept.dtype)


def gated_edit(
    encodings: torch.Tensor,
    weight: torch.Tensor,
    i_star: torch.Tensor,
    o_star: torch.Tensor,
    c_inv: torch.Tensor,
    bias: Number,
    temperature: Number,
    gate: Gate = torch.sigmoid,
) -> torch.Tensor:
    """Eq. 3 for J = 1, Eq. 4 for J > 1, the plain layer for J = 0 -> [..., M, d_out]."""
    if len(i_star) == 0:
        return linear(encodings.to(weight.dtype), weight)
    orthogonal, gates = split(encodings, concept_basis(i_star, c_inv), bias, temperature, gate)
    return project(orthogonal, gates, weight, o_star)


def rome_update(
    weight: torch.Tensor, i_star: torch.Tensor, o_star: torch.Tensor, c_inv: torch.Tensor
) -> torch.Tensor:
    """Eq. 1: W + Lambda (C^-1 i_star)^T, for one concept: i_star [d], o_star [d_out]."""
    w, i, o, c = (
        tensor.double() for tensor in (weight, i_star.reshape(-1), o_star.reshape(-1), c_inv)
    )
    c_i = c @ i
    return (w + torch.outer(o - w @ i, c_i) / (i @ c_i)).to(weight.dtype)


# In a U-Net


class Last:
    """The result for the tensor seen last. The tensor is held, so no other can take its address."""

    def __init__(self) -> None:
        self.key: tuple[torch.Tensor, tuple[Any, ...]] | None = None
        self.result: Any = None

    def get(self, encodings: torch.Tensor, compute: Callable[[], Any]) -> Any:
        # changed in place: another tensor
        version = None if encodings.is_inference() else encodings._version
        mode = (version, torch.is_autocast_enabled(encodings.device.type), torch.is_grad_enabled())
        if self.key is None or self.key[0] is not encodings or self.key[1] != mode:
            self.result = compute()
            self.key = (encodings, mode)
        return self.result


class Edit:
    """What all layers of a pipeline share: the concepts' subspace, their gates, the split of the
    last encodings.
    """

    def __init__(
        self,
        basis: Basis,
        bias: torch.Tensor,
        temperature: torch.Tensor,
        linear_gates: Sequence[bool] = (),
    ) -> None:
        self.basis, self.bias, self.temperature = basis, bias, temperature
        self.linear = torch.tensor(linear_gates, dtype=torch.bool)
        self.width = basis.u.shape[1]
        self.last = Last()

    def gate(self, argument: torch.Tensor) -> torch.Tensor:
        if not self.linear.any():
            return torch.sigmoid(argument)
        return torch.where(self.linear.to(argument.device), argument, torch.sigmoid(argument))

    def parts(self, encodings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """e_orthogonal and gates; of the first half, where global lock has joined two encodings."""
        return self.last.get(encodings, lambda: self.compute(encodings[..., : self.width]))

    def compute(self, encodings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.basis.u.device != encodings.device:
            self.basis = Basis(
                *(t.to(encodings.device) for t in (self.basis.sim, self.basis.u, self.basis.sim_u))
            )
        return split(encodings, self.basis, self.bias, self.temperature, self.gate)


class EditedProjection(nn.Module):
    """A K or V projection under Eq. 4: the same weight parameter, another forward."""

    def __init__(self, plain: nn.Linear, edit: Edit, o_star: torch.Tensor) -> None:
        super().__init__()
        self.weight = plain.weight
        self.edit = edit
        if isinstance(o_star, nn.Parameter):
            self.o_star = o_star  # [J, d_out], trained
        else:
            self.register_buffer("o_star", o_star.to(plain.weight.device), persistent=False)
        self.last = Last()

    def forward(self, encodings: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            return self.compute(encodings)
        return self.last.get(encodings, lambda: self.compute(encodings))

    def compute(self, encodings: torch.Tensor) -> torch.Tensor:
        orthogonal, gates = self.edit.parts(encodings)
        return project(orthogonal, gates, self.weight, self.o_star)


class SuperKeys(EditedProjection):
    """K under global lock: the second half of the joined encodings, the super-category's prompt,
    through plain W_K.
    """

    def compute(self, encodings: torch.Tensor) -> torch.Tensor:
        return linear(encodings[..., self.edit.width :].to(self.weight.dtype), self.weight)
