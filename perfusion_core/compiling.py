"""A backbone compiled: faster pictures that differ in low bits from those of the plain one."""

import time

from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D

from perfusion_core.backbone import Backbone
from perfusion_core.sampling import sample

# SD 1.5 has 18 shapes of compiled parts, twice with training; torch's 8 would leave the rest as it
# is
GRAPHS = 128


def compile_backbone(
    backbone: Backbone, images: int = 8, rows: int = 0, backend: str = "inductor"
) -> float:
    """torch.compile for the parts that no method replaces; -> seconds of the warm-up, two steps of
    some pictures.

    What concepts edit (attn2) stays as it is, so nothing is compiled again.
    """
    for name, module in backbone.unet.named_modules():
        if isinstance(module, (ResnetBlock2D, FeedForward)) or name.endswith("attn1"):
            # one limit for all: they share their code
            module.compile(backend=backend, recompile_limit=GRAPHS)
    started = time.monotonic()
    sample(backbone, "a photo", list(range(images)), steps=2, rows=rows)
    return time.monotonic() - started
