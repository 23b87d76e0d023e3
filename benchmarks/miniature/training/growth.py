"""Larger networks that begin where smaller ones ended.

In: an untrained network and the numbers of a trained one that has fewer layers, or others. Out: the
untrained one, which now computes what the trained one does as far as they have the same layers.
"""

from collections.abc import Mapping
from typing import Any

import torch

# what a residual branch ends in: of zeros, the branch adds nothing yet
ENDS = (".proj_out.", ".conv2.")


def grown(network: Any, old: Mapping[str, torch.Tensor]) -> Any:
    """Give `network` the numbers in `old` that it has a place for. What else it has adds nothing
    yet, and what it has no place for is left out."""
    for name, parameter in network.named_parameters():
        if name not in old and any(end in name for end in ENDS):
            torch.nn.init.zeros_(parameter)
    own = network.state_dict()
    # a convolution of 1 x 1 and a linear layer hold the same numbers
    fitting = {name: old[name].reshape(own[name].shape) for name in own if name in old}
    network.load_state_dict(fitting, strict=False)
    return network
