"""A backbone compiled: faster pictures that differ in low bits from those of the plain one.

In: a backbone. Out: the same one, compiled. What torch makes for it stays in the user's cache, so
that the next process starts warm.
"""

import os
import time

from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D

from perfusion_core.backbone import Backbone
from perfusion_core.places import cache_dir
from perfusion_core.sampling import sample

# SD 1.5 has 18 shapes of compiled parts, twice with training; torch's 8 would leave the rest as it
# is
GRAPHS = 128
PLACE = "TORCHINDUCTOR_CACHE_DIR"


def keep_compiled() -> None:
    """What is compiled lies in the user's cache, unless the user chose another place.

    Torch's usual place is a temporary folder. Importing torch's compiler writes it into the
    environment, where a choice would stand.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    usual = default_cache_dir()
    if os.environ.get(PLACE, usual) == usual:
        os.environ[PLACE] = str(cache_dir().absolute() / "compiled")


def compile_backbone(
    backbone: Backbone, images: int = 8, rows: int = 0, backend: str = "inductor"
) -> float:
    """torch.compile for the parts that no method replaces; -> seconds of the warm-up, two steps of
    some pictures.

    What concepts edit (attn2) stays as it is, so nothing is compiled again.
    """
    keep_compiled()
    for name, module in backbone.unet.named_modules():
        if isinstance(module, (ResnetBlock2D, FeedForward)) or name.endswith("attn1"):
            # one limit for all: they share their code
            module.compile(backend=backend, recompile_limit=GRAPHS)
    started = time.monotonic()
    sample(backbone, "a photo", list(range(images)), steps=2, rows=rows)
    return time.monotonic() - started
