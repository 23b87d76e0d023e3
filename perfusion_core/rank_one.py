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
COMPUTED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
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


def project(kept: torch.Tensor, gates: torch.Tensor, o_star: torch.Tensor) -> torch.Tensor:
    """Eq. 4 of one layer: `kept`, which is W e_orthogonal, + sum_j o_star_j gate_j."""
    # in kept's dtype, which is autocast's where there is autocast
    with torch.autocast(kept.device.type, enabled=False):
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
    return project(linear(orthogonal.to(weight.dtype), weight), gates, o_star)


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
        self.copy: torch.Tensor | None = None

    def get(self, encodings: torch.Tensor, compute: Callable[[], Any]) -> Any:
        # an inference tensor does not tell whether it was changed in place: its numbers do, where
        # looking at them waits for no device
        silent = encodings.is_inference()
        if silent and encodings.device.type != "cpu":
            return compute()
        mode = (
            None if silent else encodings._version,  # changed in place: another tensor
            torch.is_autocast_enabled(encodings.device.type),
            torch.is_grad_enabled(),
        )
        known = self.key is not None and self.key[0] is encodings and self.key[1] == mode
        if not known or (silent and not same(self.copy, encodings)):
            self.result = compute()
            self.key, self.copy = (encodings, mode), encodings.clone() if silent else None
        return self.result


def same(a: torch.Tensor | None, b: torch.Tensor) -> bool:
    return a is not None and torch.equal(a, b)


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
    """A K or V projection under Eq. 4 in front of the plain module, which it asks for W e.

    The plain module is a linear layer, one with adapters, one stored in eight bits: whatever maps
    linearly. Its tensors keep the names that they have without the edit.
    """

    def __init__(self, plain: nn.Module, edit: Edit, o_star: torch.Tensor) -> None:
        super().__init__()
        self.plain = plain
        self.edit = edit
        if isinstance(o_star, nn.Parameter):
            self.o_star = o_star  # [J, d_out], trained
        else:
            weight = weight_of(plain)
            here = o_star if weight is None else o_star.to(weight.device)
            self.register_buffer("o_star", here, persistent=False)
        self.last = Last()
        self.register_state_dict_post_hook(without_plain)
        self.register_load_state_dict_pre_hook(with_plain)

    @property
    def weight(self) -> Any:
        return self.plain.weight

    def forward(self, encodings: torch.Tensor) -> torch.Tensor:
        # an adapter's scale may be another one at every call
        if torch.is_grad_enabled() or type(self.plain) is not nn.Linear:
            return self.compute(encodings)
        return self.last.get(encodings, lambda: self.compute(encodings))

    def compute(self, encodings: torch.Tensor) -> torch.Tensor:
        orthogonal, gates = self.edit.parts(encodings)
        return project(through(self.plain, orthogonal), gates, self.target(orthogonal))

    def target(self, like: torch.Tensor) -> torch.Tensor:
        """[J, d_out], what the concepts are projected to."""
        return self.o_star

    def stand_before(self, plain: nn.Module) -> None:
        """Before this module from now on: the same one, or one with adapters."""
        self.plain, self.last = plain, Last()

    def forget(self) -> None:
        """What was found by the plain module's weights, which are about to be others."""
        self.last = Last()


class LockedKeys(EditedProjection):
    """K under local lock: each o_star is W_K e_super of the plain module as it is now, but where K
    was trained.
    """

    def __init__(
        self,
        plain: nn.Module,
        edit: Edit,
        o_star: torch.Tensor,
        e_super: torch.Tensor,
        trained: torch.Tensor,
    ) -> None:
        super().__init__(plain, edit, o_star)
        self.e_super: torch.Tensor
        self.register_buffer("e_super", e_super, persistent=False)  # [J, d]
        self.trained = trained  # bool [J, 1]
        # o_star holds for a plain layer; adapters may change what it should be at any time
        self.known = type(plain) is nn.Linear

    def stand_before(self, plain: nn.Module) -> None:
        self.known = self.known and plain is self.plain
        super().stand_before(plain)

    def forget(self) -> None:
        self.known = False
        super().forget()

    def keep_at(self, e_super: torch.Tensor) -> None:
        """From now on the keys are those of other encodings [J, d]."""
        self.e_super = e_super
        self.forget()

    def target(self, like: torch.Tensor) -> torch.Tensor:
        if self.known:
            return self.o_star
        now = response(self.plain, self.e_super.to(like))
        return torch.where(self.trained.to(now.device), self.o_star.to(now), now)


class SuperKeys(EditedProjection):
    """K under global lock: the second half of the joined encodings, the super-category's prompt,
    through plain W_K.
    """

    def compute(self, encodings: torch.Tensor) -> torch.Tensor:
        if encodings.shape[-1] != 2 * self.edit.width:
            raise UserError(
                'lock="global" reads the super-category\'s prompt beside each prompt, and this one '
                "came without it: draw with the pipeline that has the concepts, or use "
                'lock="local"'
            )
        return through(self.plain, encodings[..., self.edit.width :])


def weight_of(plain: nn.Module) -> torch.Tensor | None:
    """The weight, where the module has one that can be read (quantised ones may have none)."""
    weight = getattr(plain, "weight", None)
    return weight if isinstance(weight, torch.Tensor) else None


def through(plain: nn.Module, encodings: torch.Tensor) -> torch.Tensor:
    """The plain module's own output. Weights stored in eight bits tell no dtype to compute in."""
    weight = weight_of(plain)
    if weight is not None and weight.dtype in COMPUTED:
        encodings = encodings.to(weight.dtype)
    out: torch.Tensor = plain(encodings)
    return out


def response(plain: nn.Module, encodings: torch.Tensor) -> torch.Tensor:
    """W e in float32 or better, without the bias where there is one: it is in `through` already."""
    if type(plain) is nn.Linear and plain.weight.dtype in COMPUTED:
        weight = plain.weight.detach().float()
        return linear(encodings.to(weight.device).float(), weight)
    out, bias = through(plain, encodings), getattr(plain, "bias", None)
    exact = out if out.dtype == torch.float64 else out.float()
    return exact - bias.to(exact) if isinstance(bias, torch.Tensor) else exact


def without_plain(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """The plain module's tensors under the names that they have without the edit."""
    within = f"{prefix}plain."
    for name in [name for name in state if name.startswith(within)]:
        state[prefix + name.removeprefix(within)] = state.pop(name)


def with_plain(module: EditedProjection, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """The way back, where tensors are loaded inside the block."""
    module.forget()
    for name in [name for name in state if name.startswith(prefix)]:
        state[f"{prefix}plain.{name.removeprefix(prefix)}"] = state.pop(name)
