"""What is said before scorers of today are fetched and used: how much is downloaded, how long it
takes.

In: names as typed, pictures, a device. Out: sentences on stderr.
"""

import sys
import time
from collections.abc import Sequence

from benchmarks.running.time_left import words
from benchmarks.scoring.modern import SHORT, is_here
from perfusion_core.hub import amount

SIDE = 1024  # of the matrices whose product tells how fast this machine is
SECONDS = 0.3
# a transformer is slower than its matrices alone: from and to, of the time that these would take
RANGE = (1.0, 4.0)


def tell_modern(names: Sequence[str], pictures: int, device: str) -> None:
    """Of those among the names whose size is known; nothing where there are none."""
    if not (known := {name: SHORT[name] for name in names if name in SHORT}):
        return
    lacking = {name: one for name, one in known.items() if not is_here(one)}
    if lacking:
        each = ", ".join(f"{name} {amount(one.bytes)}" for name, one in lacking.items())
        total = amount(sum(one.bytes for one in lacking.values()))
        print(
            f"perfbench: about {total} will be downloaded once, each with a few MB of other files: "
            f"{each}",
            file=sys.stderr,
        )
    work = pictures * sum(one.work for one in known.values())
    if work:
        seconds = work / rate(device)
        print(
            f"perfbench: {', '.join(known)} see at most {pictures} pictures of this run, "
            f"{words(RANGE[0] * seconds, RANGE[1] * seconds)} on {device} (by how fast it "
            f"multiplies; what is known from before takes none)",
            file=sys.stderr,
        )


def rate(device: str) -> float:
    """Multiplications with an addition that this device does in a second, in float32."""
    import torch

    one = torch.ones(SIDE, SIDE, device=device)
    (one @ one)[0, 0].item()  # the first one is slower
    start, done = time.monotonic(), 0
    while time.monotonic() - start < SECONDS:
        (one @ one)[0, 0].item()
        done += 1
    return done * SIDE**3 / (time.monotonic() - start)
