"""The edit against a float64 loop written from the paper's Eq. 1 to 4, on random and on strongly
correlated i_star.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perfusion_core.errors import UserError
from perfusion_core.rank_one import concept_basis, gated_edit, linear_gate, rome_update

D, OUT, M = 24, 40, 9


def problem(concepts: int, correlated: bool, seed: int = 0, batch: tuple[int, ...] = (2,)):
    """Float32 inputs; C with condition number about 1e4, i_star near to each other where
    correlated.
    """
    rng = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(D, D, generator=rng, dtype=torch.float64))
    c_inv = ((q * torch.logspace(-2, 2, D, dtype=torch.float64)) @ q.T).float()
    c_inv = (c_inv + c_inv.T) / 2
    i_star = torch.randn(concepts, D, generator=rng)
    if correlated:
        i_star = i_star[:1] + 0.02 * i_star
    e = torch.randn(*batch, M, D, generator=rng)
    if concepts:
        e[..., 3, :] = i_star[-1] + 0.05 * e[..., 3, :]  # a token that is the concept
    weight, o_star = (
        torch.randn(OUT, D, generator=rng) / D**0.5,
        torch.randn(concepts, OUT, generator=rng),
    )
    return e, weight, i_star, o_star, c_inv


def reference(e, weight, i_star, o_star, c_inv, betas, taus, gate=lambda x: 1 / (1 + math.exp(-x))):
    """Eq. 4 in Python's own order, float64: Gram-Schmidt by projections instead of our Cholesky and
    QR.
    """
    e, weight, i_star, o_star, c_inv = (
        np.asarray(t, dtype=np.float64) for t in (e, weight, i_star, o_star, c_inv)
    )

    def sim(a, b):
        return float(a @ c_inv @ b)

    basis: list[np.ndarray] = []
    for i in i_star:
        u = i.copy()
        for _ in range(2):  # twice is enough
            for v in basis:
                u = u - v * sim(v, u)
        basis.append(u / math.sqrt(sim(u, u)))
    out = np.empty((*e.shape[:-1], len(weight)))
    for where in np.ndindex(*e.shape[:-1]):
        orthogonal = e[where].copy()
        for u in basis:
            orthogonal = orthogonal - u * sim(u, e[where])
        h = weight @ orthogonal
        for i, o, beta, tau in zip(i_star, o_star, betas, taus, strict=True):
            h = h + o * gate((sim(i, e[where]) / sim(i, i) - beta) / tau)
        out[where] = h
    return out


def off(ours: torch.Tensor, theirs: np.ndarray) -> float:
    return float(np.abs(ours.double().numpy() - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("concepts", [1, 2, 3, 5])
def test_eq_3_and_4(concepts, correlated):
    inputs = problem(concepts, correlated)
    betas, taus = np.linspace(0.4, 0.75, concepts), np.linspace(0.1, 0.2, concepts)
    ours = gated_edit(*inputs, bias=torch.tensor(betas), temperature=torch.tensor(taus))
    assert ours.dtype == torch.float32
    assert off(ours, reference(*inputs, betas, taus)) < 1e-5


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    concepts=st.integers(1, 4),
    spread=st.floats(0.01, 1),
    beta=st.floats(0, 1),
)
def test_eq_4_anywhere(seed, concepts, spread, beta):
    e, weight, i_star, o_star, c_inv = problem(concepts, False, seed, batch=())
    i_star = i_star[:1] + spread * i_star
    inputs = (e, weight, i_star, o_star, c_inv)
    assert (
        off(
            gated_edit(*inputs, beta, 0.15),
            reference(*inputs, [beta] * concepts, [0.15] * concepts),
        )
        < 1e-5
    )


def test_a_euclidean_metric_or_separate_subtractions_would_be_seen():
    """The two mistakes of public versions move the output by tens of per cent on these inputs."""
    e, weight, i_star, o_star, c_inv = problem(3, True)
    right = reference(e, weight, i_star, o_star, c_inv, [0.6] * 3, [0.15] * 3)
    euclidean = reference(e, weight, i_star, o_star, np.eye(D), [0.6] * 3, [0.15] * 3)
    one_by_one = e.double()
    for i in i_star.double():
        ci = c_inv.double() @ i
        one_by_one = one_by_one - torch.outer((e.double() @ ci).flatten(), i).reshape(e.shape) / (
            i @ ci
        )
    gates = torch.sigmoid(
        (
            (e.double() @ c_inv.double() @ i_star.double().T)
            / ((i_star.double() @ c_inv.double()) * i_star).sum(1)
            - 0.6
        )
        / 0.15
    )
    separate = one_by_one @ weight.double().T + gates @ o_star.double()
    assert np.abs(euclidean - right).max() / np.abs(right).max() > 0.3
    assert np.abs(separate.numpy() - right).max() / np.abs(right).max() > 0.3


def test_one_concept_is_eq_3_as_appendix_d_writes_it():
    e, weight, i_star, o_star, c_inv = problem(1, False)
    i = i_star[0].double()
    c_i = c_inv.double() @ i
    sim, energy = e.double() @ c_i, i @ c_i
    appendix = (
        e.double() @ weight.double().T
        - torch.einsum("bm,o->bmo", sim, weight.double() @ i) / energy
    )
    appendix = appendix + torch.einsum(
        "bm,o->bmo", torch.sigmoid((sim / energy - 0.75) / 0.1), o_star[0].double()
    )
    assert off(gated_edit(e, weight, i_star, o_star, c_inv, 0.75, 0.1), appendix.numpy()) < 1e-5


def test_linear_gate_is_rome():
    e, weight, i_star, o_star, c_inv = problem(1, False)
    edited = rome_update(weight.double(), i_star[0], o_star[0], c_inv)
    # what ROME promises
    torch.testing.assert_close(edited @ i_star[0].double(), o_star[0].double())
    ours = gated_edit(e, weight, i_star, o_star, c_inv, 0.0, 1.0, gate=linear_gate)
    assert off(ours, (e.double() @ edited.T).numpy()) < 1e-5


def test_an_orthogonal_encoding_passes():
    e, weight, i_star, o_star, c_inv = (t.double() for t in problem(1, False))
    c_i = i_star[0] @ c_inv
    e = e - torch.einsum("bm,d->bmd", e @ c_i, i_star[0]) / (c_i @ i_star[0])
    passed = e @ weight.T + o_star[0] / (1 + math.exp(0.6 / 0.15))
    torch.testing.assert_close(gated_edit(e, weight, i_star, o_star, c_inv, 0.6, 0.15), passed)


def test_no_concept_is_the_plain_layer():
    e, weight, i_star, o_star, c_inv = problem(0, False)
    assert torch.equal(gated_edit(e, weight, i_star, o_star, c_inv, 0.6, 0.15), e @ weight.T)


def test_the_scale_of_c_cancels_and_its_shape_does_not():
    e, weight, i_star, o_star, c_inv = problem(2, True)
    once = gated_edit(e, weight, i_star, o_star, c_inv, 0.6, 0.15)
    torch.testing.assert_close(gated_edit(e, weight, i_star, o_star, c_inv * 1024, 0.6, 0.15), once)
    assert (
        off(gated_edit(e, weight, i_star, o_star, torch.eye(D), 0.6, 0.15), once.double().numpy())
        > 0.1
    )


def test_the_order_of_concepts_does_not_matter():
    e, weight, i_star, o_star, c_inv = problem(3, True)
    once = gated_edit(e, weight, i_star, o_star, c_inv, [0.5, 0.6, 0.7], 0.15)
    torch.testing.assert_close(
        gated_edit(e, weight, i_star.flip(0), o_star.flip(0), c_inv, [0.7, 0.6, 0.5], 0.15),
        once,
        rtol=1e-5,
        atol=1e-5,
    )


def test_gradients():
    e, weight, i_star, o_star, c_inv = (t.double() for t in problem(2, True, batch=()))
    e, o_star = e[:4].requires_grad_(), o_star.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda e, o: gated_edit(e, weight, i_star, o, c_inv, 0.6, 0.15), (e, o_star)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(dtype):
    e, weight, i_star, o_star, c_inv = problem(3, True)
    right = reference(e, weight, i_star, o_star, c_inv, [0.6] * 3, [0.15] * 3)
    with torch.autocast("cpu", dtype=dtype):
        under = gated_edit(e, weight, i_star, o_star, c_inv, 0.6, 0.15)
    assert under.dtype == dtype
    assert off(under, right) < 0.01
    low = gated_edit(e, weight.to(dtype), i_star, o_star, c_inv, 0.6, 0.15)
    assert low.dtype == dtype
    assert off(low, right) < 0.01


def test_nearly_equal_concepts_are_refused_by_name():
    _, _, i_star, _, c_inv = problem(3, False)
    i_star[2] = i_star[1] * (1 + 1e-6)
    with pytest.raises(UserError, match="'dog' and 'puppy'"):
        concept_basis(i_star, c_inv, ["cat", "dog", "puppy"])
    i_star[1] = i_star[0] + 0.1 * i_star[1]  # related to the first, and still another one
    i_star[2] = i_star[1] * (1 + 1e-6)
    with pytest.raises(UserError, match="'dog' and 'puppy'"):
        concept_basis(i_star, c_inv, ["cat", "dog", "puppy"])
