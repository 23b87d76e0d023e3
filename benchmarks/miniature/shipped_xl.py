"""`python -m benchmarks.miniature.shipped_xl WHOLE`: put a built miniature-xl into the package.

In: the folder that `perfbench miniature build --xl` made of the weights in the package. Out: beside
these, what only it has (`perfusion_core/shared_parts.py`), 16 MB at most; `--backbone miniature-xl`
opens it from there.
"""

import shutil
import sys
from pathlib import Path

from benchmarks.disk import replace
from benchmarks.paths import miniature_dir, miniature_xl_parts
from perfusion_core.errors import UserError
from perfusion_core.shared_parts import take_apart

MOST = 16_000_000  # bytes more in the package


def ship(whole: Path, parts: Path) -> Path:
    """The own parts of `whole`, once it shares all else with the weights in the package."""
    aside = take_apart(whole, miniature_dir(), parts.with_name(f"{parts.name}.part"))
    size = sum(path.stat().st_size for path in aside.rglob("*") if path.is_file())
    if size > MOST:
        shutil.rmtree(aside)
        raise UserError(
            f"{whole} has {size / 1e6:.1f} MB that only it has, and {MOST / 1e6:.0f} are the most "
            f"that the package takes; build it with the sizes of networks.py"
        )
    replace(aside, parts)
    return parts


if __name__ == "__main__":
    print(ship(Path(sys.argv[1]), miniature_xl_parts()))
