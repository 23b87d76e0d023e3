"""A concept without its gate: the best static change of a K or V projection, as two thin factors.

Eq. 4 is W e + delta(e), where delta(e) = sum_j o_star_j g_j(e) - W P e and P projects on the
concepts' span. delta(e) lies in the span of the o_star_j and of W's image of that span, so the best
linear map in its place has at most rank 2 J. Its only unknown is a_j, the linear probe that comes
nearest to the gate g_j: one vector for all layers. A linear gate is such a probe already, and its
map has rank J and is exact.

In: moments of encodings and gates, a `Basis`, a layer. Out: up [d_out, r] and down [r, d], float64,
so that K and V become (W + up down) e.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from perfusion_core.rank_one import Basis


class Factors(NamedTuple):
    up: torch.Tensor  # [d_out, r]
    down: torch.Tensor  # [r, d]


@dataclass(frozen=True)
class Moments:
    """Weighted sums over encodings e [N, d] and their gates g [N, J], in float64."""

    weight: torch.Tensor  # []
    ee: torch.Tensor  # [d, d]
    eg: torch.Tensor  # [d, J]
    gg: torch.Tensor  # [J, J]
    g: torch.Tensor  # [J]

    @staticmethod
    def of(e: torch.Tensor, g: torch.Tensor, weights: torch.Tensor) -> "Moments":
        e, g, w = e.double(), g.double(), weights.double()
        we, wg = e * w[:, None], g * w[:, None]
        return Moments(w.sum(), we.T @ e, we.T @ g, wg.T @ g, wg.sum(0))

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.weight + other.weight,
            self.ee + other.ee,
            self.eg + other.eg,
            self.gg + other.gg,
            self.g + other.g,
        )

    def times(self, factor: float) -> "Moments":
        return Moments(*(factor * part for part in vars(self).values()))


def probes(moments: Moments, ridge: float) -> torch.Tensor:
    """a [d, J] of least squares (g_j - a_j . e)^2; `ridge` is a part of the largest eigenvalue."""
    most = torch.linalg.eigvalsh(moments.ee)[-1]
    eye = torch.eye(len(moments.ee), dtype=torch.float64, device=moments.ee.device)
    return torch.linalg.solve(moments.ee + ridge * most * eye, moments.eg)


def explained(moments: Moments, a: torch.Tensor) -> torch.Tensor:
    """R^2 [J] of the probes: the part of each gate's variance that they tell."""
    left = moments.gg.diagonal() - 2 * (a * moments.eg).sum(0) + (a * (moments.ee @ a)).sum(0)
    return 1 - left / (moments.gg.diagonal() - moments.g.square() / moments.weight)


def static_factors(
    weight: torch.Tensor,
    o_star: torch.Tensor,
    basis: Basis,
    a: torch.Tensor,
    linear: torch.Tensor,
) -> Factors:
    """One layer's map, of rank J and one more for each concept whose gate is not linear.

    Args:
        weight: W [d_out, d].
        o_star: [J, d_out].
        basis: of all the concepts.
        a: their probes [d, J]; not read where the gate is linear.
        linear: [J], whose gate is linear.
    """
    w, o = weight.double(), o_star.double()
    # a linear gate reads the concepts' span: sim = sim_u within, [J, n]
    within = torch.linalg.lstsq(basis.sim_u, basis.sim[:, linear]).solution
    span = o[linear].T @ within.T - w @ basis.u.T  # [d_out, J]
    return Factors(
        torch.cat([o[~linear].T, span], dim=1), torch.cat([a[:, ~linear].T, basis.sim_u.T])
    )


def square_root(moments: Moments) -> torch.Tensor:
    """root [d, d], so that the sum of e e^T is root root^T."""
    values, vectors = torch.linalg.eigh(moments.ee)
    return vectors * values.clamp(min=0).sqrt()


def of_rank(factors: Factors, root: torch.Tensor, rank: int) -> Factors:
    """The map of this rank that is nearest over the encodings: reduced-rank regression."""
    q, r = torch.linalg.qr(factors.up)
    kept = torch.linalg.svd(r @ factors.down @ root, full_matrices=False).U[:, :rank]
    return Factors(q @ kept, kept.T @ r @ factors.down)


def balanced(factors: Factors) -> Factors:
    """Each column of `up` as long as its row of `down`, so that neither leaves half precision."""
    up, down = factors.up.norm(dim=0), factors.down.norm(dim=1)
    scale = (down / up.clamp(min=torch.finfo(up.dtype).tiny)).sqrt()
    scale = torch.where((up > 0) & (down > 0), scale, torch.ones_like(scale))
    return Factors(factors.up * scale, factors.down / scale[:, None])


def energies(
    moments: Moments,
    weight: torch.Tensor,
    o_star: torch.Tensor,
    basis: Basis,
    factors: Factors,
) -> tuple[float, float]:
    """Sums over the encodings: |up down e - delta(e)|^2, and |delta(e)|^2 beside it."""
    s, down = basis.sim_u, factors.down.double()
    # delta = [o_star, -W u] c with c = (g, sim_u^T e); the map is `up` times down e
    outputs = torch.cat(
        [o_star.double().T, -weight.double() @ basis.u.T, -factors.up.double()], dim=1
    )
    reads = torch.cat([s.T, down])  # [J + r, d]
    read_g = reads @ moments.eg  # [J + r, J]
    seconds = torch.cat(
        [
            torch.cat([moments.gg, read_g.T], dim=1),
            torch.cat([read_g, reads @ moments.ee @ reads.T], dim=1),
        ]
    )
    gram, edit = outputs.T @ outputs, 2 * len(moments.g)
    wrong = (gram * seconds).sum()
    return max(0.0, float(wrong)), float((gram * seconds)[:edit, :edit].sum())
