"""What classifier-free guidance asks of a batch. In: the scale. Out: rows of the U-Net, pictures.

It needs no torch, so that a plan counts as the sampler does.
"""

NONE = 1.0  # the scale at which the prompt alone decides


def rows_a_picture(guidance: float) -> int:
    """With guidance, one with the prompt and one without."""
    return 1 if guidance == NONE else 2


def per_batch(rows: int, guidance: float) -> int:
    """How many pictures a batch of so many rows of the U-Net draws."""
    return max(1, rows // rows_a_picture(guidance))
