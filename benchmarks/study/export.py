"""A run folder -> a study folder: `page/` for raters, `private/` for you, `answers/` for what comes back.

In: a run, the study's kind and methods, a Design. Out: the folder; what was made, in a few lines.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from benchmarks.study import design as plans
from benchmarks.study.design import Design
from benchmarks.study.material import DEFAULT_METHODS, KINDS, Choice, Task, read_source, read_tasks
from benchmarks.study.pictures import choice_pixels, padded, png, reference_pixels, side_of
from benchmarks.study.qualification import make_pool
from benchmarks.study.signing import known_answer, sign
from perfusion_core.errors import UserError, unknown

SCHEMA = "perfbench-study-key/1"
TITLES = {"ranking": "Which picture fits best?", "realism": "How real does it look?"}
SCRIPTS = ("keep.js", "sha256.js", "base.js", "session.js", "screen.js", "keys.js")


def export(
    run: Path,
    kind: str,
    out: Path,
    design: Design,
    methods: Sequence[str] = (),
    rejected: Sequence[str] = (),
    allow_missing: bool = False,
) -> str:
    """Make the study folder `out`; an earlier export there is replaced as long as it has no answers."""
    if kind not in KINDS:
        raise unknown("study", kind, KINDS)
    methods = tuple(methods) or DEFAULT_METHODS[kind]
    if len(set(methods)) != KINDS[kind]:
        raise UserError(f"a {kind} study compares {KINDS[kind]} different methods, not {', '.join(methods)}; name them with --methods")
    check(design)
    refuse_to_overwrite(out)
    source = read_source(run, methods)
    tasks, planned = read_tasks(source, methods, design.seed, allow_missing)
    pool = make_pool(source, kind, methods[0], list(rejected), design.qualify, design.seed) if design.qualify else {}
    key = make_key(run, kind, methods, tasks, pool, planned, design)
    aside = out.with_name(f".{out.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "page" / "images").mkdir(parents=True)
    (aside / "private").mkdir(mode=0o700)
    (aside / "answers").mkdir()
    write_pictures(aside / "page" / "images", key["secret"], kind, tasks, list(pool.values()))
    (aside / "page" / "index.html").write_text(page(key, tasks, list(pool.values())), encoding="utf-8")
    write_private(aside / "private", key, pool)
    for path in (aside / "page").rglob("*"):
        os.utime(path, (0, 0))  # the times of writing would follow the order of the methods
    if out.exists():
        shutil.rmtree(out)
    aside.rename(out)
    return summary(out, key, len(tasks), planned)


def check(design: Design) -> None:
    for name, least in (("responses", 1), ("session", 1), ("qualify", 0), ("repeats", 0)):
        if getattr(design, name) < least:
            raise UserError(f"--{name} is {getattr(design, name)}; it has to be at least {least}")
    if not 0 <= design.pass_mark <= design.qualify:
        raise UserError(f"--pass-mark is {design.pass_mark}; it has to be between 0 and --qualify, which is {design.qualify}")


def refuse_to_overwrite(out: Path) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "private" / "key.json").is_file():
        raise UserError(f"{out} is there and is not a study; choose another folder with --out")
    if any((out / "answers").glob("*.json")):
        raise UserError(f"{out} has answers, which a new export would orphan; choose another folder with --out")


# ---- the key: everything that the page must not say ----


def make_key(
    run: Path, kind: str, methods: Sequence[str], tasks: Sequence[Task], pool: dict[str, Task], planned: int, design: Design
) -> dict[str, Any]:
    """What only the organiser has: the secret, which picture is whose, and what every session shows."""
    secret = secrets.token_hex(32)
    study = sign(secret, "study", length=12)
    sizes = [len(task.choices) for task in pool.values()]
    sessions = plans.sessions([task.concept for task in tasks], KINDS[kind], sizes, design)
    named = list(pool.values())
    return {
        "schema": SCHEMA,
        "study": study,
        "kind": kind,
        "run": run.resolve().name,
        "methods": list(methods),
        "design": asdict(design),
        "secret": secret,
        "planned": planned,
        "tasks": [about_task(task) for task in tasks],
        "pool": [{"name": name, **about_task(task)} for name, task in pool.items()],
        "sessions": [
            {
                "block": block,
                "trials": [
                    {**asdict(trial), "id": trial_id(secret, study, s, t, trial, (named if trial.role == plans.QUALIFY else tasks)[trial.task])}
                    for t, trial in enumerate(trials, 1)
                ],
            }
            for s, (block, trials) in enumerate(sessions, 1)
        ],
    }


def about_task(task: Task) -> dict[str, Any]:
    choices = [{"method": c.method, "point": c.point, "index": c.index, "scores": c.scores} for c in task.choices]
    return {"concept": task.concept, "group": task.group, "prompt_id": task.prompt_id, "text": task.text, "choices": choices}


def trial_id(secret: str, study: str, session: int, position: int, trial: plans.Trial, task: Task) -> str:
    """`session-position-signature`; signed with what is shown, so that no other screen can pass for this one."""
    shown = [identity(task.choices[place]) for place in trial.order]
    return f"{session}-{position}-{sign(secret, study, 'trial', session, position, task.concept, task.prompt_id, *shown)}"


def identity(choice: Choice) -> str:
    return f"{choice.path}|{choice.scrambled}"


# ---- the page ----


def choice_file(secret: str, choice: Choice) -> str:
    return f"{sign(secret, 'choice', identity(choice), length=16)}.png"


def reference_file(secret: str, path: Path) -> str:
    return f"{sign(secret, 'reference', path, length=16)}.png"


def write_pictures(folder: Path, secret: str, kind: str, tasks: Sequence[Task], pool: Sequence[Task]) -> None:
    """Every picture once. Those that are rated have one size in pixels and one in bytes, whoever made them."""
    side = side_of(tasks[0].choices[0].path)
    choices = {choice_file(secret, c): c for task in (*tasks, *pool) for c in task.choices}
    for task in tasks:
        for choice in task.choices:
            if side_of(choice.path) != side:
                raise UserError(f"{choice.path} is not {side} pixels wide like the others: its size would tell the method")
    data = {name: png(choice_pixels(c.path, side, c.scrambled)) for name, c in choices.items()}
    size = max(map(len, data.values())) + 12
    for name in sorted(data):
        (folder / name).write_bytes(padded(data[name], size))
    if kind == "ranking":
        shown = {reference_file(secret, path): path for task in (*tasks, *pool) for path in task.references}
        for name in sorted(shown):
            (folder / name).write_bytes(png(reference_pixels(shown[name])))


def page_data(key: dict[str, Any], tasks: Sequence[Task], pool: Sequence[Task]) -> dict[str, Any]:
    """What the page knows: texts, file names, signed ids, and digests of the qualification's known answers."""
    secret, ranking = key["secret"], key["kind"] == "ranking"

    def screen(trial: dict[str, Any]) -> dict[str, Any]:
        qualifies = trial["role"] == plans.QUALIFY
        task = (pool if qualifies else tasks)[trial["task"]]
        shown = {
            "id": trial["id"],
            "text": task.text,
            "references": [reference_file(secret, path) for path in task.references] if ranking else [],
            "images": [choice_file(secret, task.choices[place]) for place in trial["order"]],
        }
        return shown | ({"check": known_answer(trial["id"], trial["order"].index(0))} if qualifies else {})

    design = key["design"]
    return {
        "study": key["study"],
        "kind": key["kind"],
        "qualify": design["qualify"],
        "pass_mark": design["pass_mark"],
        "sessions": [[screen(trial) for trial in session["trials"]] for session in key["sessions"]],
    }


def page(key: dict[str, Any], tasks: Sequence[Task], pool: Sequence[Task]) -> str:
    """index.html with style, script and data inside: it works from a folder as from a server."""
    kind = key["kind"]
    _, welcome, guide = split_marks(asset(f"{kind}.html"), ("<!-- welcome -->", "<!-- guide -->"))
    data = json.dumps(page_data(key, tasks, pool), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "TITLE": escape(TITLES[kind]),
        "KIND": kind,
        "STYLE": asset("style.css"),
        "DRAWINGS": asset("drawings.svg"),
        "WELCOME": welcome,
        "GUIDE": guide,
        "LETTERS": "<kbd>B</kbd>" if kind == "realism" else "<kbd>B</kbd> <kbd>C</kbd>",
        "SCRIPT": "\n".join(asset(name) for name in SCRIPTS),
        "DATA": data,
    }
    text = asset("page.html")
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


def split_marks(text: str, marks: Iterable[str]) -> list[str]:
    parts = []
    for mark in marks:
        before, text = text.split(mark)
        parts.append(before)
    return [*parts, text]


def asset(name: str) -> str:
    return (files("benchmarks.study") / "page" / name).read_text(encoding="utf-8")


# ---- what the organiser gets ----


def write_private(folder: Path, key: dict[str, Any], pool: dict[str, Task]) -> None:
    """key.json, the sessions as a list to hand out, and the qualification trials with their answers to look at."""
    path = folder / "key.json"
    path.write_text(json.dumps(key, ensure_ascii=False) + "\n", encoding="utf-8")
    path.chmod(0o600)
    rows = ["session,block,screens,link"]
    rows += [f"{n},{s['block'] + 1},{len(s['trials'])},index.html#s={n}" for n, s in enumerate(key["sessions"], 1)]
    (folder / "sessions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "qualification.html").write_text(contact_sheet(key, pool), encoding="utf-8")


def contact_sheet(key: dict[str, Any], pool: dict[str, Task]) -> str:
    """The qualification trials, the right answer first: a person looks before other people are judged by them."""
    rows = []
    for name, task in pool.items():
        pictures = [f'<img src="../page/images/{choice_file(key["secret"], c)}" alt="">' for c in task.choices]
        given = [f'<img class="given" src="../page/images/{reference_file(key["secret"], p)}" alt="">' for p in task.references if key["kind"] == "ranking"]
        rows.append(f"<tr><td><code>{escape(name)}</code><br>{escape(task.text)}</td><td>{''.join(given)}</td><td>{pictures[0]}</td><td>{''.join(pictures[1:])}</td></tr>")
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Qualification trials</title>
<style>body{{font:16px/1.4 system-ui,sans-serif;margin:1.5rem}}img{{width:9rem;margin:.2rem}}.given{{outline:3px solid #0b57a4}}td,th{{padding:.4rem;border-top:1px solid #ccc;text-align:left}}</style>
<h1>Qualification trials</h1>
<p>Is the picture under “right” clearly the best for everyone? Name the trials where it is not: <code>--reject NAME,NAME</code> with the same export command.</p>
<table><tr><th>trial</th><th>the object</th><th>right</th><th>wrong</th></tr>
{chr(10).join(rows)}
</table></html>
"""


def summary(out: Path, key: dict[str, Any], tasks: int, planned: int) -> str:
    design = key["design"]
    sessions = key["sessions"]
    blocks = max(session["block"] for session in sessions) + 1
    screens = [len(session["trials"]) for session in sessions]
    size = sum(path.stat().st_size for path in (out / "page").rglob("*") if path.is_file()) / 1e6
    return f"""{key["kind"]} study {key["study"]} in {out}
  methods    {", ".join(key["methods"])} from {key["run"]}
  trials     {tasks * design["responses"]:,} ({tasks} of {planned} prompts of a concept, {design["responses"]} responses each)
  sessions   {len(sessions)} of {min(screens)} to {max(screens)} screens; no rater needs more than one of a block ({blocks} blocks)
  page       {out / "page"} ({size:.0f} MB): give raters this folder and nothing else
  look at    {out / "private" / "qualification.html"} before anyone is asked
  then       perfbench study serve {out}"""
