"""Larger networks that begin where smaller ones ended.

In: an untrained network and the numbers of a trained one that has fewer layers, or others. Out: the
untrained one, which now computes what the trained one does as far as they have the same layers.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

# what a residual branch ends in: of zeros, the branch adds nothing yet
ENDS = (".proj_out.", ".conv2.")


ATTENTIONS = ".attentions."  # of a block of a U-Net, which may have none of them


def grown(network: Any, old: Mapping[str, torch.Tensor]) -> Any:
    """Give `network` the numbers in `old` that it has a place for. What else it has adds nothing
    yet. Left out are the attentions of blocks that have none in `network`, and nothing else."""
    for name, parameter in network.named_parameters():
        if name not in old and any(end in name for end in ENDS):
            torch.nn.init.zeros_(parameter)
    own = network.state_dict()
    lost = [name for name in old if name not in own and not is_left_out(name, own)]
    assert not lost, f"no place for {lost[0]} and {len(lost) - 1} more"
    fitting = {name: in_shape(old[name], own[name].shape) for name in own if name in old}
    assert fitting, "these are numbers of another network"
    network.load_state_dict(fitting, strict=False)
    return network


def is_left_out(name: str, own: Iterable[str]) -> bool:
    """Whether a name is of a block's attentions, and that block has none among `own` names."""
    block, inside, _ = name.partition(ATTENTIONS)
    return bool(inside) and not any(other.startswith(block + inside) for other in own)


def in_shape(old: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The same numbers; a convolution of 1 x 1 may become a linear layer, or the other way."""
    squeezed = {*old.shape[2:], *shape[2:]} <= {1} and old.shape[:2] == shape[:2]
    assert old.shape == shape or squeezed, f"{tuple(old.shape)} is not {tuple(shape)}"
    return old.reshape(shape)


# ---- from one text encoder to two

READS = (".attn2.to_k.weight", ".attn2.to_v.weight")


def grown_joint(
    network: Any, old: Mapping[str, torch.Tensor], bridge: torch.Tensor, sizes: torch.Tensor
) -> Any:
    """Give a U-Net of two text encoders the numbers of one that reads the first alone.

    The old one reads y. The new one is given h beside the second's encoding, each number divided by
    its `sizes` [d], and y is about h `bridge` [d1, d1]; as far as it is, both compute the same. The
    second's columns begin at zero, and so does what pooled text and sizes add.
    """
    width = int(network.config.cross_attention_dim)
    grown(network, {name: joint_columns(one, bridge, sizes, width) if name.endswith(READS) else one
                    for name, one in old.items()})  # fmt: skip
    torch.nn.init.zeros_(network.add_embedding.linear_2.weight)
    torch.nn.init.zeros_(network.add_embedding.linear_2.bias)
    return network


def joint_columns(
    old: torch.Tensor, bridge: torch.Tensor, sizes: torch.Tensor, width: int
) -> torch.Tensor:
    """K or V [out, d1] of y as K or V [out, d] of both encoders' encodings: W bridge^T, zeros."""
    first = old.double() @ bridge.double().T  # [out, d1]: W y = W bridge^T h
    rest = first.new_zeros(len(old), width - first.shape[1])
    return (torch.cat([first, rest], dim=1) * sizes.double()).to(old.dtype)
