"""A run folder made for tests of figures and report: seeded scores, effects of concepts and
prompts, pictures.

In: a folder, what it should hold. Out: run.json, plan.csv, rows, fits, concept images and images as
a run leaves them, and the tables that the real tables/build.py makes of them.
"""

import colorsys
import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from benchmarks.store.csv_files import planned_text
from benchmarks.store.run_folder import Store
from benchmarks.store.run_json import SCHEMA
from benchmarks.tables.build import write_tables

PROMPTS = Path(__file__).parent.parent / "prompts" / "prompts.csv"
CONCEPTS = {
    "cat": ("animated", 0.78),
    "cat_toy": ("animated", 0.70),
    "chair": ("furniture", 0.76),
    "dog": ("animated", 0.75),
    "pot": ("container", 0.69),
    "puppy": ("animated", 0.77),
    "sculpture": ("animated", 0.66),
    "sunglasses": ("wearable", 0.73),
    "teapot": ("container", 0.71),
    "teddy": ("animated", 0.79),
    "tortoise": ("animated", 0.68),
}
LOCAL = ("local-b0.60-t0.15", "local-b0.65-t0.15", "local-b0.70-t0.15", "local-b0.75-t0.15")
GLOBAL = (
    "global-b0.40-t0.15",
    "global-b0.45-t0.15",
    "global-b0.50-t0.15",
    "global-b0.55-t0.15",
    "global-b0.60-t0.15",
)
# uniquely shaped: global locking loses them
ODD = {"sculpture", "tortoise", "cat_toy", "sunglasses"}


def aim(method: str, point: str) -> tuple[float, float]:
    """Mean image similarity above a concept's own level, and text similarity relative to
    `super`.
    """
    fixed = {
        "super": (-0.115, 1.0),
        "db": (-0.035, 0.885),
        "ti": (0.0, 0.735),
        "cd": (0.045, 0.835),
        "cd-better": (0.012, 0.895),
        "lora": (0.02, 0.85),
    }
    if (trained := method.removesuffix("-selected")) in fixed:
        return fixed[trained]
    bias = float(point.split("-b")[1][:4])
    if point.startswith("local"):
        image, text = 0.05 - 0.42 * (bias - 0.6), 0.875 + 0.55 * (bias - 0.6)
    else:
        image, text = 0.028 - 0.5 * (bias - 0.4), 0.915 + 0.42 * (bias - 0.4)
    step = int(point.rsplit("-s", 1)[1]) if "-s" in point else None
    if step is not None:
        far = 1 - np.exp(-step / 120)
        image, text = (
            (-0.09 + 0.16 * far, 0.99 - 0.2 * far)
            if "trained" in method
            else (-0.09 + 0.12 * far, 0.99 - 0.09 * far)
        )
        return image - (0.03 * step / 400 if "trained" not in method else 0), text
    shift = {
        "perfusion-one-shot": (0.004, -0.022),
        "perfusion-trained-k": (0.012, -0.055),
        "perfusion-no-mask": (0.006, -0.03),
        "perfusion-train-bias": (-0.012, -0.018),
        "perfusion-infer-temperature": (-0.006, -0.014),
        "perfusion-vanilla-rome": (-0.09, -0.12),
    }.get(method, (0.0, 0.0))
    return image + shift[0], text + shift[1]


def samples(
    methods: dict[str, tuple[str, ...]],
    concepts: list[str],
    prompts: int = 99,
    images: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """A row an image: scores with effects of concept, prompt and their pairing, the same for every
    method.
    """
    random = np.random.default_rng(seed)
    with PROMPTS.open(encoding="utf-8") as file:
        catalogue = list(csv.DictReader(file))
    rows = []
    for concept in concepts:
        group, level = CONCEPTS[concept]
        mine = [row for row in catalogue if row["group"] in ("all", group)]
        shape = [row for row in mine if row["kind"] == "shape"][:prompts]
        deform = [row for row in mine if row["kind"] == "deform"][:prompts]
        own = random.normal(0, 0.02, 2)
        for prompt in shape + deform:
            ease = np.random.default_rng(
                int(hashlib.sha256(prompt["id"].encode()).hexdigest()[:8], 16)
            ).normal(0, [0.02, 0.03])
            for method, points in methods.items():
                for point in points:
                    image, text = aim(method, point)
                    if point.startswith("global") and concept in ODD:
                        image -= 0.06
                    noise = random.normal(0, [0.03, 0.018], (images, 2))
                    fixed = (method, point, concept, group, prompt["id"], prompt["kind"])
                    for index in range(images):
                        sim = level + own[0] + ease[0] + image + noise[index, 0]
                        raw = (
                            0.27 * (text + (own[1] if method != "super" else 0))
                            + 0.4 * ease[1]
                            + noise[index, 1]
                        )
                        seen = sim if prompt["kind"] == "shape" else None
                        rows.append((*fixed, index, int(random.integers(2**31)), seen, raw))
    names = [
        "method",
        "point",
        "concept",
        "group",
        "prompt_id",
        "kind",
        "index",
        "seed",
        "image_sim",
        "text_sim_raw",
    ]
    return pd.DataFrame(rows, columns=names)


def _colour(word: str, light: float = 0.6, strong: float = 0.5) -> tuple[int, int, int]:
    hue = int(hashlib.sha256(word.encode()).hexdigest()[:4], 16) / 65535
    return tuple(int(255 * part) for part in colorsys.hls_to_rgb(hue, light, strong))  # type: ignore[return-value]


def picture(concept: str, scene: str, fade: float, wobble: int, size: int = 64) -> Image.Image:
    """A small creature of the concept's colours before the scene's sky and ground; `fade` takes it
    towards grey.
    """
    image = Image.new("RGB", (2 * size, 2 * size), _colour(scene, 0.75, 0.55))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, size * 1.25, 2 * size, 2 * size), fill=_colour(scene + "ground", 0.45, 0.4))
    body = tuple(int((1 - fade) * part + fade * 150) for part in _colour(concept, 0.55, 0.65))
    x, y = size + (wobble % 5 - 2) * size // 8, int(size * 1.1) + (wobble % 3 - 1) * size // 12
    r = size // 2
    draw.ellipse((x - r, y - r // 2, x + r, y + r), fill=body, outline="black", width=2)
    draw.ellipse(
        (x - r // 2, y - int(r * 1.3), x + r // 2, y - r // 4), fill=body, outline="black", width=2
    )
    for side in (-1, 1):
        draw.polygon(
            [
                (x + side * r // 2, y - r),
                (x + side * r // 4, y - int(1.7 * r)),
                (x, y - int(1.1 * r)),
            ],
            fill=body,
            outline="black",
        )
        draw.ellipse((x + side * r // 5 - 3, y - r, x + side * r // 5 + 3, y - r + 6), fill="black")
    return image.resize((size, size), Image.Resampling.LANCZOS)


def key_of(*words: str) -> str:
    return hashlib.sha256("|".join(words).encode()).hexdigest()


def draw_images(run: Path, frame: pd.DataFrame, size: int = 64) -> None:
    """One PNG for every row, where the contract says."""
    for (method, point, concept, prompt), cell in frame.groupby(
        ["method", "point", "concept", "prompt_id"]
    ):
        folder = run / "images" / method / point / concept / prompt
        folder.mkdir(parents=True, exist_ok=True)
        files = {}
        fade = min(max(0.45 - 4 * aim(method, point)[0], 0), 1)
        for index in cell["index"]:
            file = folder / f"{index}.png"
            picture(concept, prompt, fade, int(index), size).save(file)
            files[file.name] = {
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                "bytes": file.stat().st_size,
            }
        (folder / "cell.json").write_text(
            json.dumps({"key": key_of(method, point, concept, prompt), "files": files})
        )


def make_run(
    run: Path,
    methods: dict[str, tuple[str, ...]],
    concepts: list[str] | None = None,
    *,
    prompts: int = 99,
    images: int = 8,
    pictures: bool = True,
    size: int = 64,
    seed: int = 0,
    extra: dict | None = None,
) -> pd.DataFrame:
    """The whole folder; -> its sample rows."""
    frame = samples(
        {"super": ("default",), **methods}, concepts or list(CONCEPTS), prompts, images, seed
    )
    templates = {
        row["id"]: row["template"] for row in csv.DictReader(PROMPTS.open(encoding="utf-8"))
    }
    run.mkdir(parents=True, exist_ok=True)
    scorer = "ViT-B-32-quickgelu-openai-0a1b2c3d"
    run.joinpath("run.json").write_text(
        json.dumps(
            {
                "schema": SCHEMA,
                "version": "0.1.0",
                "commit": "0123456789ab",
                "digests": {"plan": "", "texts": "", "concepts": {}, "masks": {}, "prompts": {}},
                "argv": ["perfbench", "run", "--methods", ",".join(methods)],
                "config": {
                    "preset": "paper",
                    "steps": 50,
                    "guidance": 6.0,
                    "images": images,
                    "seed": 0,
                },
                "backbone": {"id": "miniature", "revision": "", "sha256": "ab" * 32},
                "scorers": [
                    {"name": scorer, "id": "ViT-B-32-quickgelu/openai", "sha256": "cd" * 32}
                ],
                "libraries": {"torch": "2.15.0", "diffusers": "0.42.1"},
                "device": "cpu",
                "dtype": "float32",
                "units": {"cells": {"planned": 12, "done": 12, "failed": 0}},
                "seconds": {"fit": 812.5, "generate": 2400.1, "score": 95.0},
                "started": "2026-11-20T09:00:00+00:00",
                "finished": "2026-11-20T09:55:07+00:00",
                **(extra or {}),
            }
        )
    )
    cell = ["method", "point", "concept", "group", "prompt_id", "kind"]
    plan = frame.groupby(cell, sort=False).size().rename("n").reset_index()
    plan["key"] = [key_of(r.method, r.point, r.concept, r.prompt_id) for r in plan.itertuples()]
    plan["fit"] = [
        key_of(r.method, r.concept) if r.method != "super" else "" for r in plan.itertuples()
    ]
    plan["template"] = [
        templates[r.prompt_id].replace("{}", f"{{{r.concept}}}") for r in plan.itertuples()
    ]
    plan["text"] = [
        " ".join(templates[r.prompt_id].replace("{}", "").split()) for r in plan.itertuples()
    ]
    run.joinpath("plan.csv").write_text(planned_text(plan.to_dict("records")))
    store = Store(run)
    frame["key"] = [
        key_of(*words)
        for words in zip(frame["method"], frame["point"], frame["concept"], frame["prompt_id"])
    ]
    rows = frame.astype(object).where(frame.notna(), "")
    for (method, point, concept), part in rows.groupby(["method", "point", "concept"], sort=False):
        store.write_rows(store.rows_file(scorer, method, point, concept), part.to_dict("records"))
    random = np.random.default_rng(seed + 1)
    for concept in dict.fromkeys(frame["concept"]):
        group, level = CONCEPTS[concept]
        sims = level + 0.1 + random.normal(0, 0.01, 5)
        about = {
            "key": "",
            "method": "real",
            "point": "default",
            "concept": concept,
            "group": group,
            "kind": "real",
        }
        real = [
            {**about, "index": index, "seed": 0, "image_sim": sim} for index, sim in enumerate(sims)
        ]
        store.write_rows(store.rows_file(scorer, "real", "default", concept), real)
        folder = store.concept(concept)
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(5):
            picture(concept, f"home{index}", 0, index, size).save(folder / f"{index}.png")
    sizes = {
        "perfusion": 48_100,
        "db": 13_100_000,
        "ti": 2_900,
        "cd": 1_480_000,
        "cd-better": 1_480_000,
        "lora": 310_000,
    }
    for method in methods:
        for concept in dict.fromkeys(frame["concept"]):
            key = key_of(method, concept)
            folder = run / "fits" / method / f"{concept}-{key[:8]}"
            folder.mkdir(parents=True, exist_ok=True)
            base = max(
                (name for name in sizes if method.startswith(name)), key=len, default="perfusion"
            )
            files = {"weights.safetensors": {"sha256": "0" * 64, "bytes": sizes[base]}}
            folder.joinpath("fit.json").write_text(
                json.dumps({"key": key, "files": files, "seconds": 31.0 + len(concept)})
            )
    if pictures:
        draw_images(run, frame, size)
    write_tables(run)
    return frame
