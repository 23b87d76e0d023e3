"""What the concepts of one prompt share: concepts and their gates' numbers in, one Edit out.

Needs no library but torch, so that other programs' pipelines can have it.
"""

from collections.abc import Mapping, Sequence

import torch

from perfusion_core.concept import Concept
from perfusion_core.rank_one import Edit, concept_basis


def joint_edit(
    loaded: Mapping[str, Concept],
    bias: Sequence[float],
    temperature: Sequence[float],
    c_inv: torch.Tensor,
) -> Edit:
    """Bias and temperature are one number a concept, in the concepts' order."""
    i_star = torch.stack([concept.i_star for concept in loaded.values()]).to(c_inv.device)
    # ROME has neither bias nor temperature
    linear_gates = [concept.gate == "linear" for concept in loaded.values()]
    beta = [0.0 if rome else b for rome, b in zip(linear_gates, bias)]
    tau = [1.0 if rome else t for rome, t in zip(linear_gates, temperature)]
    return Edit(
        concept_basis(i_star, c_inv, list(loaded)),
        torch.tensor(beta, dtype=torch.float64),
        torch.tensor(tau, dtype=torch.float64),
        linear_gates,
    )
