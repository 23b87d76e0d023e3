"""`perfbench ls`: one small function a kind. In: the command's arguments. Out: rows, printed as a
table or as JSON.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

from perfusion_core.errors import UserError, unknown

Rows = list[dict[str, Any]]


def prompts(args: Namespace) -> Rows:
    """The prompts of the catalogue, or of one concept in it."""
    from benchmarks.suite.catalog import own_concepts
    from benchmarks.suite.importers import open_suite

    catalog = open_suite(args.suite)
    chosen = catalog.prompts
    if args.concept:
        every = (*own_concepts(), *_photographs(args.suite), *catalog.concepts)
        known = {concept.name: concept for concept in every}
        if args.concept not in known:
            raise unknown("concept", args.concept, known)
        chosen = catalog.prompts_for(known[args.concept])
    return [{"id": p.id, "kind": p.kind, "group": p.group, "template": p.template} for p in chosen]


def _photographs(suite: str) -> Sequence[Any]:
    """The eleven by name and group, which need no image for a list of their prompts."""
    from benchmarks.suite.photographs import read_photos

    return read_photos() if suite in ("miniature", "photos") else ()


def concepts(args: Namespace) -> Rows:
    """The concepts of the catalogue, and the ones that the user added."""
    from benchmarks.suite.catalog import own_concepts
    from benchmarks.suite.importers import open_suite

    catalog = open_suite(args.suite)
    return [
        {
            "name": c.name,
            "super_category": c.super_category,
            "group": c.group,
            "images": len(c.images),
            "masks": len(c.masks),
            "heldout": len(c.heldout),
            "difficulty": c.difficulty,
            "prompts": len(catalog.prompts_for(c)),
            "licence": c.licence,
            "source": c.source,
        }
        for c in (*catalog.concepts, *own_concepts())
    ]


def suites(args: Namespace) -> Rows:
    """The catalogues and the layouts of other people's suites, with the protocol that each is
    measured by.
    """
    from benchmarks.suite.catalog import PERFUSION
    from benchmarks.suite.generated import GENERATED
    from benchmarks.suite.importers import PROTOCOLS, SUITES

    rows = [
        ("miniature", PERFUSION, "the eleven, drawn; shipped"),
        ("photos", PERFUSION, "the eleven, photographed"),
    ]
    rows += [(f"{name}:N", PERFUSION, what) for name, (_, what) in GENERATED.items()]
    rows += [(f"{name}:DIR", PROTOCOLS[name], first_line(read)) for name, read in SUITES.items()]
    return [
        {
            "suite": name,
            "images": protocol.images_per_prompt,
            "class_word": protocol.class_word,
            "image_prompts": protocol.image_prompts,
            "steps": protocol.steps,
            "guidance": protocol.guidance,
            "layout": layout,
        }
        for name, protocol, layout in rows
    ]


def methods(args: Namespace) -> Rows:
    """What --methods takes."""
    from benchmarks.planning.methods import listed

    return listed(files_of(args))


def files_of(args: Namespace) -> list[str]:
    """Those of methods of the user's own."""
    return [file for file in (args.method_files or "").split(",") if file]


def backbones(args: Namespace) -> Rows:
    """The short names; folders, files and hub ids are taken as well."""
    from huggingface_hub import try_to_load_from_cache

    from benchmarks.paths import backbone_names
    from perfusion_core.hub import HUB

    names = backbone_names()
    rows = [("this package", name, names.here(name)) for name in names]
    for name, hub_id in HUB.items():
        rows.append(
            (hub_id, name, isinstance(try_to_load_from_cache(hub_id, "model_index.json"), str))
        )
    return [{"name": name, "here": "yes" if here else "no", "of": of} for of, name, here in rows]


def presets(args: Namespace) -> Rows:
    """What --preset takes."""
    from benchmarks.planning.config import PRESETS

    return [{"name": name, "what": words} for name, (words, _) in PRESETS.items()]


def runs(args: Namespace) -> Rows:
    """The run folders under results/, the newest last."""
    from benchmarks.miniature.which_world import world_of_run
    from benchmarks.store.reading import known_run, list_runs

    rows = []
    for folder in list_runs():
        about = known_run(folder)  # a damaged one is listed, so that it can be found
        cells = about.get("units", {}).get("cells", {})
        rows.append(
            {
                "run": str(folder),
                "methods": ",".join(about.get("methods", {})),
                "backbone": about.get("backbone", {}).get("id", "?"),
                "world": world_of_run(about) or "-",
                "cells": f"{cells.get('done', 0)}/{cells.get('planned', '?')}",
                "failed": len(about.get("failures", [])),
                "started": about.get("started", "?"),
                "finished": about.get("finished") or "no",
            }
        )
    return rows


def first_line(what: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((what.__doc__ or "").split("\n\n")[0].split())


LISTS: dict[str, Callable[[Namespace], Rows]] = {
    "methods": methods,
    "concepts": concepts,
    "prompts": prompts,
    "suites": suites,
    "backbones": backbones,
    "presets": presets,
    "runs": runs,
}


def show_list(args: Namespace) -> None:
    """Print one list."""
    if args.kind not in LISTS:
        raise unknown("list", args.kind, LISTS)
    if args.concept and args.kind != "prompts":
        raise UserError("--concept goes with `perfbench ls prompts`; leave it out")
    if args.cite and (args.kind != "methods" or args.json):
        raise UserError("--cite goes with `perfbench ls methods` alone; leave it out")
    if args.method_files and args.kind != "methods":
        raise UserError("--method-file goes with `perfbench ls methods`; leave it out")
    if args.cite:
        from benchmarks.planning.methods import citations, uncited

        print(citations(files_of(args)))
        for name in uncited(files_of(args)):
            print(f"perfbench: nothing to cite was given for {name}", file=sys.stderr)
        return
    rows = LISTS[args.kind](args)
    texts = {"methods": methods_by_family}
    text = texts.get(args.kind, listing_table)
    print(json.dumps(rows, indent=1, ensure_ascii=False) if args.json else text(rows))


def methods_by_family(rows: Rows) -> str:
    """A heading a family, a line a method: its name, the size of a fit, what is trained."""
    from benchmarks.planning.method_families import FAMILIES

    parts = []
    shown = [
        {
            "name": row["name"],
            "size": f"{row['kilobytes']:,} kB" if row["kilobytes"] else "",
            "what": " ".join(
                filter(None, (row["label"], "(untuned)" if row["tuned"] == "no" else ""))
            )
            + (f": {row['summary']}" if row["summary"] not in ("", row["label"]) else ""),
        }
        for row in rows
    ]
    widths = {key: max(len(line[key]) for line in shown) for key in ("name", "size")}
    for family in (*FAMILIES, ""):
        lines = [
            f"  {line['name']:<{widths['name']}}  {line['size']:>{widths['size']}}  {line['what']}"
            for row, line in zip(rows, shown)
            if row["family"] == family
        ]
        title = FAMILIES[family].title if family else "Others"
        parts += [title, *lines, ""] if lines else []
    return "\n".join([*parts, "Sizes are of a fit on Stable Diffusion 1.5."])


def listing_table(rows: Rows) -> str:
    """Rows in aligned columns, the last one as long as it is."""
    if not rows:
        return "none"
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    )
