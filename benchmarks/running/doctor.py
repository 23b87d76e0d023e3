"""`perfbench doctor`: is this machine ready, and what would be slow or missing on it?

In: nothing. Out: a line a question on stdout; exit status 1 where something has to be mended.
"""

import os
import platform
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import gettempdir

from benchmarks.paths import RESULTS, git_commit, user_dir
from benchmarks.running.beforehand import crowded
from benchmarks.store.cache_verbs import shown
from perfusion_core import __version__, hardware
from perfusion_core.errors import UserError
from perfusion_core.places import cache_dir

LIBRARIES = ("torch", "torchvision", "diffusers", "transformers", "open_clip_torch", "safetensors")
ROOM = 5e9  # bytes: a quick run and its report take far less, a backbone of the hub about as much
HUB = ("huggingface.co", 443)
Answer = tuple[str, str]  # ok, note or MEND; a sentence
OK, NOTE, MEND = "ok", "note", "MEND"


def doctor() -> int:
    """Every question is asked, whatever the others say."""
    wrong = 0
    for ask in QUESTIONS:
        for kind, sentence in answers(ask):
            wrong += kind == MEND
            print(f"{kind:<5} {sentence}", flush=True)
    print(f"{wrong} to mend" if wrong else "ready")
    return int(wrong > 0)


def answers(ask: Callable[[], Iterator[Answer]]) -> Iterator[Answer]:
    """What a library is missing for is said, and the next question is asked."""
    try:
        yield from ask()
    except ImportError as error:
        yield MEND, f"{ask.__name__.replace('_', ' ')}: {error}"


def versions() -> Iterator[Answer]:
    commit = git_commit()
    yield (
        OK,
        f"perfbench {__version__}"
        + (f" ({commit})" if commit else "")
        + (f", Python {platform.python_version()}, {platform.system()} {platform.machine()}"),
    )
    for name in LIBRARIES:
        try:
            yield OK, f"{name} {version(name)}"
        except PackageNotFoundError:
            yield MEND, f"{name} is missing: pip install {name}"


def torch_pair() -> Iterator[Answer]:
    """torchvision calls into the torch that it was built for."""
    try:
        import torch
        from torchvision.ops import nms

        nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except ImportError:
        return  # said above
    except (RuntimeError, AttributeError) as error:
        sentence = str(error).partition("\n")[0]
        yield (
            MEND,
            f"torch and torchvision do not belong together ({sentence:.90}): install both from "
            f"one place: pip install --force-reinstall torch torchvision",
        )
    else:
        yield OK, "torch and torchvision belong together"


def device() -> Iterator[Answer]:
    import torch

    cores = os.cpu_count() or 1
    native = hardware.has_bfloat16()
    kind = "fast bfloat16 in hardware" if native else "no fast bfloat16: float32 is used"
    yield OK, f"{hardware.processor()}, {cores} cores, {kind}"
    if hardware.has_gpu():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            dtype = hardware.fast_dtype_name(f"cuda:{number}")
            yield OK, f"cuda:{number}: {about.name}, {shown(about.total_memory)}, {dtype}"
    else:
        yield NOTE, "no GPU that torch can use: the miniature takes minutes, sd15 would take days"
    if told := crowded("cpu", threads=0):
        yield NOTE, told


def disks() -> Iterator[Answer]:
    places = {
        "results": RESULTS,
        "your concepts": user_dir(),
        "cache": cache_dir(),
        "temporary files": Path(gettempdir()),
    }
    for what, place in places.items():
        there = next(p for p in [place.absolute(), *place.absolute().parents] if p.exists())
        if not there.is_dir():
            yield MEND, f"{what}: {there} is a file, and a folder is wanted"
            continue
        free = shutil.disk_usage(there).free
        if not os.access(there, os.W_OK):
            yield MEND, f"{what}: nothing can be written in {there}"
        elif free < ROOM:
            yield NOTE, f"{what}: {shown(free)} free in {there}, which may be too little"
        else:
            yield OK, f"{what}: {shown(free)} free in {there}"


def hub() -> Iterator[Answer]:
    """Whether a download could begin; nothing is sent."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        yield NOTE, "HF_HUB_OFFLINE is set: backbones and photographs have to be here already"
        return
    try:
        with socket.create_connection(HUB, timeout=3):
            yield OK, f"{HUB[0]} can be reached: backbones can be fetched"
    except OSError:
        yield (
            NOTE,
            (
                f"{HUB[0]} cannot be reached: the miniature works, sd15 and photographs have to be "
                f"here already (docs/stable-diffusion.md)"
            ),
        )


def picture() -> Iterator[Answer]:
    """The shipped backbone draws one, as a run would."""
    import numpy as np

    from benchmarks.paths import miniature_dir
    from perfusion_core.backbone import Backbone
    from perfusion_core.sampling import sample

    try:
        dtype = hardware.fast_dtype_name("cpu")
        backbone = Backbone.open(miniature_dir(), device="cpu", dtype=dtype)
        started = time.monotonic()
        drawn = sample(backbone, "a cat on the beach", [0], steps=10)
    except (UserError, OSError, RuntimeError) as error:
        yield MEND, f"the miniature draws nothing: {error}"
        return
    seconds = time.monotonic() - started
    if np.ptp(drawn) == 0:
        yield MEND, f"the miniature draws one colour in {dtype}"
    else:
        yield OK, f"the miniature draws a picture in {dtype}: 10 steps in {seconds:.1f} s"


QUESTIONS: tuple[Callable[[], Iterator[Answer]], ...] = (
    versions, torch_pair, device, disks, hub, picture,
)  # fmt: skip
