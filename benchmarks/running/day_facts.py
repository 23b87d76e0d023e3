"""What a day on a GPU begins with: the backbone, fetched, and with what this machine calculates.

In: a backbone and a device, as words (`python -m benchmarks.running.day_facts sd15 auto`).
Out: one JSON object. A process of its own, so that no model and no driver stays open for the day.
"""

import json
import platform
import shutil
import sys
from typing import Any

from benchmarks.devices import device_name
from benchmarks.paths import backbone_names, git_commit
from benchmarks.planning.backbones import covariance_digest
from benchmarks.planning.kinds import picture_size
from benchmarks.store.run_json import device_words, libraries
from perfusion_core import __version__
from perfusion_core.errors import UserError
from perfusion_core.hardware import fast_dtype_name, processor
from perfusion_core.places import locate
from perfusion_core.weight_digests import backbone_digest


def facts(backbone: str, device: str) -> dict[str, Any]:
    name, place, revision = locate(backbone, None, backbone_names())
    chosen = device_name(device)
    return {
        "perfbench": __version__,
        "commit": git_commit(),
        "libraries": libraries(),
        "system": platform.platform(),
        "processor": processor(),
        "device": device_words(chosen),
        **(_gpu(chosen) if chosen.startswith("cuda") else {}),
        "dtype": fast_dtype_name(chosen),
        "free_disk_gb": round(shutil.disk_usage(".").free / 1e9, 1),
        "backbone": {
            "id": name,
            "revision": revision,
            "sha256": backbone_digest(place),
            "covariance": covariance_digest(place) or None,
            "size": picture_size(place),
        },
    }


def _gpu(device: str) -> dict[str, Any]:
    import torch

    about = torch.cuda.get_device_properties(device)
    return {
        "gpu_memory_gib": round(about.total_memory / 2**30, 1),
        "compute_capability": f"{about.major}.{about.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def main() -> int:
    backbone, device = sys.argv[1:]
    try:
        print(json.dumps(facts(backbone, device), indent=1))
    except UserError as error:
        print(f"perfbench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
