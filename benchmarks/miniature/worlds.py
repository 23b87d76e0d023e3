"""Suites of any number of drawn concepts: `world:N` to report on, `world-tuning:N` to tune on.

In: a number. Out: concept folders in the cache, and a `Catalog` of them with the shipped prompts.
The same number gives the same bytes everywhere, and a smaller one the first of them.
"""

import hashlib
import re
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.disk import Locks
from benchmarks.miniature.shipped import (
    ASYMMETRIC,
    ELEVEN,
    HELDOUT,
    TUNING,
    instance_of,
    taken,
)
from benchmarks.miniature.world.instance import Instance, make_instance, stream
from benchmarks.miniature.world.picture import CONCEPT_CLASSES, POOL
from benchmarks.suite.catalog import Catalog, shipped_prompts
from benchmarks.suite.concept_folder import GRADES, Concept, read_concept, write_concept
from perfusion_core.errors import UserError
from perfusion_core.places import cache_dir

APART = 0.6  # distance to the pool, to the shipped concepts, and to one another
MOST = 60  # of a class, in either suite
KINDS = {"world": "", "world-tuning": "tuning_"}  # what their concepts' names begin with
GROUP = {cls: group for cls, _, group, _ in (ELEVEN | TUNING).values()}


@dataclass(frozen=True)
class Drawn:
    """One concept of a suite before it is drawn."""

    kind: str
    name: str
    one: Instance

    @property
    def pictures(self) -> int:
        """5 to 8, as the shipped concepts have."""
        return int(stream("pictures of", self.name).integers(5, 9))


def world_suite(kind: str, number: str) -> Catalog:
    """N concepts of the eleven's classes in turn."""
    most = MOST * len(CONCEPT_CLASSES)
    if not re.fullmatch(r"[1-9]\d{0,3}", number) or int(number) > most:
        raise UserError(
            f"suite {kind}:{number[:20]} has no number of concepts: write {kind}:1 to {kind}:{most}"
        )
    wanted = chosen(kind, int(number))
    root = cache_dir() / "worlds" / sources()
    try:
        with Locks(root).locked("worlds"):
            missing = [one for one in wanted if not (root / one.name).is_dir()]
            for one in tqdm(
                missing,
                desc=f"perfbench: drawing {kind}:{number}",
                leave=False,
                disable=None if len(missing) > 5 else True,
            ):
                draw(one, root)
        concepts: list[Concept] = [read_concept(root / one.name) for one in wanted]
    except (OSError, UserError) as error:
        raise UserError(
            f"{kind}:{number} lies in {root}, which cannot be used: {error}; remove that folder, "
            f"or name another cache by PERFBENCH_CACHE"
        ) from error
    return shipped_prompts(f"{kind}:{number}", concepts)


def chosen(kind: str, number: int) -> list[Drawn]:
    """The first of every class, then the second of every class: the eleven's proportions."""
    each = {cls: instances(kind, cls) for cls in CONCEPT_CLASSES}
    return [
        Drawn(kind, f"{KINDS[kind]}{cls}_{turn + 1:02d}", each[cls][turn])
        for turn in range(-(-number // len(CONCEPT_CLASSES)))
        for cls in CONCEPT_CLASSES[: number - turn * len(CONCEPT_CLASSES)]
    ]


@cache
def instances(kind: str, cls: str) -> tuple[Instance, ...]:
    """The first candidates that lie apart from training, from what is shipped, from the other
    suite, and from those before them.
    """
    avoided = [pool(cls)]
    avoided += [np.stack([one.vector()]) for one in shipped(cls)]
    if kind != "world":
        avoided.append(np.stack([one.vector() for one in instances("world", cls)]))
    near, found = np.concatenate(avoided), list[Instance]()
    candidate = 0
    while len(found) < MOST:
        one = make_instance(cls, (kind, candidate))
        candidate += 1
        if np.linalg.norm(near - one.vector(), axis=1).min() >= APART:
            found.append(one)
            near = np.concatenate([near, one.vector()[None]])
    return tuple(found)


@cache
def pool(cls: str) -> np.ndarray:
    """The identities of a class that training pictures show."""
    return np.stack([make_instance(cls, ("pool", k)).vector() for k in range(POOL)])


def shipped(cls: str) -> list[Instance]:
    return [instance_of(name) for name, about in (ELEVEN | TUNING).items() if about[0] == cls]


def grade(one: Instance) -> str:
    """How far it lies from what is usual for its class: thirds of the training's instances."""
    usual = pool(one.cls).mean(0)
    far = np.linalg.norm(pool(one.cls) - usual, axis=1)
    below = (far < np.linalg.norm(one.vector() - usual)).mean()
    return GRADES[min(int(below * len(GRADES)), len(GRADES) - 1)]


def draw(one: Drawn, root: Path) -> None:
    """Its folder: training pictures with masks, held-out pictures, a grade."""
    name, asymmetric = one.name, one.one.cls in ASYMMETRIC
    images, masks = taken(one.one, name, one.pictures, asymmetric)
    heldout, _ = taken(one.one, f"{name} held out", HELDOUT, asymmetric)
    write_concept(
        root / name,
        super_category=one.one.cls,
        group=GROUP[one.one.cls],
        source=f"drawn by benchmarks/miniature for {one.kind}, an instance that its training "
        f"never shows",
        licence="Apache-2.0",
        images=list(map(stored_png, images)),
        masks=list(map(stored_png, masks)),
        heldout=list(map(stored_png, heldout)),
        difficulty=grade(one.one),
        asymmetric=asymmetric,
    )


def stored_png(pixels: np.ndarray) -> bytes:
    """A PNG of uint8 [H, W] or [H, W, 3] without compression, whose bytes no library decides: what
    packs differs between builds, and a concept's digest is that of its files.
    """
    height, width = pixels.shape[:2]
    lines = b"".join(b"\0" + line.tobytes() for line in np.ascontiguousarray(pixels))
    stored = b"\x78\x01"
    for start in range(0, len(lines), 65535):
        part = lines[start : start + 65535]
        last = start + len(part) == len(lines)
        stored += struct.pack("<BHH", last, len(part), 65535 - len(part)) + part
    stored += struct.pack(">I", zlib.adler32(lines))
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", head), (b"IDAT", stored), (b"IEND", b""))
    )


@cache
def sources() -> str:
    """A digest of what draws: another renderer draws other pictures, in a folder of their own."""
    here = Path(__file__).parent
    files = [here / "shipped.py", here / "worlds.py", *sorted((here / "world").glob("*.py"))]
    whole = hashlib.sha256(b"".join(file.read_bytes() for file in files))
    return whole.hexdigest()[:16]
