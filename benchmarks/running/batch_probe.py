"""Does this device keep the rows of a batch apart? Tried once, and then known to this machine.

In: a Job, its backbone. Out: yes or no.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.digests import digest
from benchmarks.disk import DiskError, read_json, write_whole
from benchmarks.running.tasks import Job
from perfusion_core.guidance import NONE
from perfusion_core.places import cache_dir


def keeps_apart(job: Job, backbone: Any, circumstances: dict[str, Any], remember: bool) -> bool:
    """`circumstances`: device, versions and dtype, by which the answer is remembered."""
    from perfusion_core.batches import rows_are_apart

    rows, guidance = job.models.rows, job.config.guidance
    place = answer_file(job, circumstances)
    told = (read_json(place) or {}).get("apart") if remember else None
    if isinstance(told, bool):
        return told
    found = rows_are_apart(backbone, rows, guidance)
    if remember:
        # the next process asks again
        with suppress(OSError, DiskError):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, json.dumps({"apart": found, "rows": rows}) + "\n")
    return found


def answer_file(job: Job, circumstances: dict[str, Any]) -> Path:
    about = {
        **circumstances,
        "backbone": job.models.digest,
        "rows": job.models.rows,
        "guided": job.config.guidance != NONE,
    }
    if job.models.vae:  # pictures are decoded by it
        about["vae"] = job.models.vae.digest
    return cache_dir() / "batches" / f"{digest(about)[:32]}.json"
