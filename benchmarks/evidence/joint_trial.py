"""Perfusion's pictures of a run on a backbone of Stable Diffusion XL's kind, drawn otherwise:
`python -m benchmarks.evidence.joint_trial RUN OUT`.

In: a run whose fits are there. Out: pictures in OUT and their list, which `perfbench import` takes
into the run beside Perfusion's own, with the same noise:

    zeros-unedited  where there is no prompt, K and V are what they are without a concept
    pooled-drawn    the concept's own text is pooled in drawing, and the super-category's was in
                    training
"""

import argparse
import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.disk import read_json, write_whole
from benchmarks.scoring.reserved import OURS
from benchmarks.store.reading import planned_fits, read_plan
from benchmarks.store.run_folder import cell_folder, fit_folder
from perfusion_core.errors import UserError

ZEROS, POOLED = "zeros-unedited", "pooled-drawn"
LIST, COLUMNS = "pictures.csv", ("method", "point", "concept", "prompt", "index", "seed", "path")


@dataclass(frozen=True)
class Group:
    """The cells of one concept at one operating point: prompts, and the seeds of each."""

    concept: str
    point: str
    fit: Path
    prompts: Mapping[str, str]  # by their ids, with the concept's {name}
    seeds: Mapping[str, Sequence[int]]

    def rows(self) -> list[tuple[str, int, int]]:
        """Prompt, index and seed of each picture, in the order of drawing."""
        return [
            (prompt, index, seed)
            for prompt in self.prompts
            for index, seed in enumerate(self.seeds[prompt])
        ]


def groups_of(run: Path, points: Sequence[str] = ()) -> list[Group]:
    """Of Perfusion's cells of single concepts; `points`: these alone."""
    fits = {
        concept: fit_folder(run, OURS, concept, about["key"])
        for method, concept, about in planned_fits(run)
        if method == OURS
    }
    plan = read_plan(run)
    plan = plan[(plan["method"] == OURS) & (plan["kind"] != "pair")]
    if points:
        plan = plan[plan["point"].isin(points)]
    if missing := sorted(set(plan["concept"]) - set(fits)):
        raise UserError(
            f"{run} has no trained file of {', '.join(missing)}; give its command again"
        )
    if plan.empty:
        raise UserError(f"{run} has no pictures of {OURS} at {', '.join(points) or 'any point'}")
    groups = []
    for (concept, point), cells in plan.groupby(["concept", "point"], sort=False):
        concept, point = str(concept), str(point)
        prompts = dict(zip(cells["prompt_id"], cells["template"]))
        seeds = {prompt: seeds_of(run, point, concept, prompt) for prompt in prompts}
        groups.append(Group(concept, point, fits[concept], prompts, seeds))
    return groups


def seeds_of(run: Path, point: str, concept: str, prompt: str) -> Sequence[int]:
    """With which the run drew a cell."""
    cell = read_json(cell_folder(run, OURS, point, concept, prompt) / "cell.json") or {}
    if "seeds" not in cell:
        raise UserError(f"{run} has not all pictures of {OURS}; give its command again")
    return list(cell["seeds"])


def drawn_otherwise(
    backbone: Any, group: Group, how: Mapping[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    """The pictures [n, H, W, 3] of each variant; `how`: steps, guidance and rows, as `draw` has
    them.
    """
    from benchmarks.planning.points import OperatingPoint
    from perfusion_core.concept import Concept
    from perfusion_core.editing import load_concepts
    from perfusion_core.perfusion import ONE_FILE
    from perfusion_core.sampling import draw, no_text, prepared

    at = OperatingPoint.parse(group.point)
    place = group.fit / f"step-{at.step}" if at.step else group.fit
    concepts = {group.concept: Concept.load(place / ONE_FILE)}
    texts = [group.prompts[prompt] for prompt, _, _ in group.rows()]
    seeds = [seed for _, _, seed in group.rows()]
    plain = no_text(backbone)  # while nothing stands before K and V
    for name, pooled in ((ZEROS, None), (POOLED, "concept")):
        with load_concepts(
            backbone.pipe, concepts, c_inv=backbone.c_inv, pooled=pooled, **at.settings
        ):
            pictures = prepared(backbone, texts, seeds, how["guidance"])
        if name == ZEROS:
            pictures = [replace(picture, plain=plain) for picture in pictures]
        yield name, draw(backbone, pictures, **how)


@cache
def opened(run: Path) -> tuple[Any, dict[str, Any]]:
    """The run's backbone, once in a process, and how it draws."""
    from benchmarks.figures.attention.measuring import open_backbone
    from benchmarks.tables.run_view import open_run
    from perfusion_core.sampling import Manner

    found = open_run(str(run))
    backbone, about = open_backbone(found, "cpu"), found.about
    if not backbone.text.joint:
        raise UserError(
            f"{run} was drawn by a backbone with one text encoder; take one of XL's kind"
        )
    how = {name: about["protocol"][name] for name in ("steps", "guidance", "rows")}
    return backbone, how | {"how": Manner(about["config"]["scheduler"])}


def draw_group(run: Path, out: Path, group: Group) -> list[dict[str, Any]]:
    """Every variant of a group as pictures in OUT; what is there stays. -> rows of the list."""
    import torch

    folders = {name: out / name / group.point / group.concept for name in (ZEROS, POOLED)}
    if not all((folder / "whole").is_file() for folder in folders.values()):
        torch.set_num_threads(1)
        backbone, how = opened(run)
        for name, pictures in drawn_otherwise(backbone, group, how):
            for (prompt, index, _), picture in zip(group.rows(), pictures):
                file = folders[name] / prompt / f"{index}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(file)
            write_whole(folders[name] / "whole", "")
    return [
        dict(zip(COLUMNS, (name, group.point, group.concept, prompt, index, seed,
                           (folder / prompt / f"{index}.png").relative_to(out))))
        for name, folder in folders.items()
        for prompt, index, seed in group.rows()
    ]  # fmt: skip


def draw_all(run: Path, out: Path, points: Sequence[str] = (), workers: int = 2) -> Path:
    """Every group, some at once; -> the list of pictures."""
    groups = groups_of(run, points)
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        rows = [row for some in pool.map(partial(draw_group, run, out), groups) for row in some]
    aside = out / f"{LIST}.part"
    with aside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return aside.replace(out / LIST)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence.joint_trial",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the pictures")
    parser.add_argument("--points", default="", metavar="A,B", help="these operating points alone")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N")
    args = parser.parse_args(words)
    points = [name for name in args.points.split(",") if name]
    print(draw_all(args.run, args.out, points, args.workers))


if __name__ == "__main__":
    from benchmarks.advice import advised

    try:
        main()
    except UserError as error:
        raise SystemExit(f"perfbench: {advised(error)}") from None
