"""The static map against the paper's equations written as loops, and against brute force."""

import numpy as np
import pytest
import torch

from perfusion_core.rank_one import concept_basis, gated_edit, linear_gate, split
from perfusion_core.static_map import (
    Factors,
    Moments,
    balanced,
    energies,
    explained,
    of_rank,
    probes,
    square_root,
    static_factors,
)

D, OUT, N = 12, 9, 400
BIAS, TEMPERATURE = 0.6, 0.15


def made(j, seed=0):
    """W, i_star, o_star, C^-1 and encodings, some of which lie near the concepts."""
    rng = torch.Generator().manual_seed(seed)
    draw = lambda *sizes: torch.randn(*sizes, generator=rng, dtype=torch.float64)  # noqa: E731
    root = draw(D, D)
    c_inv = torch.linalg.inv(root @ root.T / D + 0.1 * torch.eye(D, dtype=torch.float64))
    i_star, o_star = draw(j, D), draw(j, OUT)
    e = draw(N, D)
    e[::4] = i_star[torch.arange(len(e[::4])) % j] + 0.2 * draw(len(e[::4]), D)
    weights = torch.rand(N, generator=rng, dtype=torch.float64)
    return draw(OUT, D), i_star, o_star, c_inv, e, weights


def delta(weight, i_star, o_star, c_inv, e, gate):
    """Eq. 3 and 4 less the plain layer, by loops over tokens and concepts, of the paper's terms."""
    w, i, o, c, x = (t.numpy() for t in (weight, i_star, o_star, c_inv, e))
    root = np.linalg.cholesky(c)  # C^-1 = L L^T
    q = np.linalg.qr(root.T @ i.T)[0]
    u = np.linalg.solve(root.T, q).T  # orthonormal in the metric
    rows = []
    for token in x:
        out = w @ (token - sum(u_j * (u_j @ c @ token) for u_j in u))
        for i_j, o_j, linear in zip(i, o, gate):
            sim = (i_j @ c @ token) / (i_j @ c @ i_j)
            g = sim if linear else 1 / (1 + np.exp(-(sim - BIAS) / TEMPERATURE))
            out = out + g * o_j
        rows.append(out - w @ token)
    return np.stack(rows)


def mapped(j, linear, seed=0, ridge=0.0):
    """The map of J concepts, and what it was made of."""
    weight, i_star, o_star, c_inv, e, weights = made(j, seed)
    basis, flags = concept_basis(i_star, c_inv), torch.tensor(linear)
    beta, tau = (
        torch.tensor([0.0 if one else b for one in linear], dtype=torch.float64) + t * flags
        for b, t in ((BIAS, 0.0), (TEMPERATURE, 1.0))
    )
    gate = lambda x: torch.where(flags, x, torch.sigmoid(x))  # noqa: E731
    moments = Moments.of(e, split(e, basis, beta, tau, gate)[1], weights)
    a = probes(moments, ridge)
    a[:, flags] = basis.sim[:, flags]
    factors = static_factors(weight, o_star, basis, a, flags)
    wanted = delta(weight, i_star, o_star, c_inv, e, linear)
    return factors, wanted, moments, a, (weight, i_star, o_star, c_inv, e, weights, basis)


def applied(factors, e):
    return (e @ factors.down.double().T @ factors.up.double().T).numpy()


@pytest.mark.parametrize("j", [1, 2, 3])
def test_linear_gates_are_exact_and_of_rank_j(j):
    factors, wanted, moments, a, (weight, i_star, o_star, c_inv, e, *_) = mapped(j, [True] * j)
    assert factors.down.shape == (j, D) and factors.up.shape == (OUT, j)
    assert np.abs(applied(factors, e) - wanted).max() < 1e-10 * np.abs(wanted).max()
    ours = gated_edit(e, weight, i_star, o_star, c_inv, 0.0, 1.0, linear_gate)
    assert torch.allclose(e @ (weight + factors.up @ factors.down).T, ours, atol=1e-9)
    assert torch.allclose(explained(moments, a), torch.ones(j, dtype=torch.float64))


@pytest.mark.parametrize("linear", [[False], [False, False], [True, False]])
def test_the_map_is_the_best_of_all_linear_maps(linear):
    """Ordinary least squares of the edit on the encodings, of any rank, finds no better one; its
    rank is that of the factors."""
    j = len(linear)
    factors, wanted, _, _, (*_, e, weights, _) = mapped(j, linear)
    root = weights.sqrt().numpy()[:, None]
    best = np.linalg.lstsq(e.numpy() * root, wanted * root, rcond=None)[0].T  # [d_out, d]
    mine = (factors.up @ factors.down).numpy()
    assert np.abs(mine - best).max() < 1e-8 * np.abs(best).max()
    assert np.linalg.matrix_rank(best, tol=1e-8) == len(factors.down) == 2 * j - sum(linear)


def test_fewer_ranks_are_the_reduced_rank_regression():
    """Against brute force: the least-squares fit of the edit, projected on the leading directions
    of what it predicts; and descent from many starts finds nothing better."""
    factors, wanted, moments, _, (*_, e, weights, _) = mapped(2, [False, False], seed=3)
    root = weights.sqrt().numpy()[:, None]
    x, y = e.numpy() * root, wanted * root
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    lost = []
    for rank in (1, 2, 3, 4):
        v = np.linalg.svd(x @ best, full_matrices=False)[2][:rank]
        theirs = (best @ v.T @ v).T
        mine = of_rank(factors, square_root(moments), rank)
        assert mine.up.shape == (OUT, rank)
        assert np.abs((mine.up @ mine.down).numpy() - theirs).max() < 1e-7
        lost.append(np.square(x @ theirs.T - y).sum())
    assert lost[0] > lost[1] > lost[2] > lost[3] * (1 + 1e-9)
    rng = np.random.default_rng(0)
    for _ in range(5):  # alternating least squares of rank 2
        down = rng.normal(size=(2, D))
        for _ in range(60):
            up = np.linalg.lstsq(x @ down.T, y, rcond=None)[0].T
            down = np.linalg.lstsq(x, y @ np.linalg.pinv(up).T, rcond=None)[0].T
        assert np.square(x @ down.T @ up.T - y).sum() > lost[1] * (1 - 1e-9)


def test_what_is_told_of_the_gate_and_of_the_error():
    linear = [True, False]
    factors, wanted, moments, a, made_of = mapped(2, linear, seed=5, ridge=1e-3)
    weight, i_star, o_star, c_inv, e, weights, basis = made_of
    shown = balanced(Factors(1e4 * factors.up, factors.down / 1e4))
    assert torch.allclose(shown.up.norm(dim=0), shown.down.norm(dim=1))
    assert torch.allclose(shown.up @ shown.down, factors.up @ factors.down)
    low = Factors(*(part.half() for part in shown))
    wrong, size = energies(moments, weight, o_star, basis, low)
    w = weights.numpy()[:, None]
    assert wrong == pytest.approx((w * np.square(applied(low, e) - wanted)).sum(), rel=1e-9)
    assert size == pytest.approx((w * np.square(wanted)).sum(), rel=1e-9)
    sim = (e @ c_inv @ i_star[1]) / (i_star[1] @ c_inv @ i_star[1])
    g = torch.sigmoid((sim - BIAS) / TEMPERATURE)
    mean = (weights * g).sum() / weights.sum()
    left = (weights * (g - e @ a[:, 1]).square()).sum() / (weights * (g - mean).square()).sum()
    assert explained(moments, a).tolist() == pytest.approx([1.0, 1 - float(left)], abs=1e-9)
    both = Moments.of(e[:100], g[:100, None], weights[:100])
    both += Moments.of(e[100:], g[100:, None], weights[100:])
    whole = Moments.of(e, g[:, None], weights)
    assert all(torch.allclose(x, y) for x, y in zip(vars(both).values(), vars(whole).values()))


def test_a_factor_of_nothing_stays_finite():
    empty = Factors(torch.zeros(OUT, 1).double(), torch.zeros(1, D).double())
    assert all(bool(part.isfinite().all()) for part in balanced(empty))
