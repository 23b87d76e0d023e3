"""A run folder -> a study folder: `page/` for raters, `private/` for you, `answers/` for what comes
back.

In: a run, the study's kind and methods, a Design. Out: the folder; what was made, in a few lines.
"""

import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.disk import Locks, replace
from benchmarks.store.reading import known_run, untuned_methods
from benchmarks.study import design as plans
from benchmarks.study.answers import KEY_SCHEMA
from benchmarks.study.contact_sheet import write_private
from benchmarks.study.design import Design
from benchmarks.study.material import DEFAULT_METHODS, KINDS, Task, read_source, read_tasks
from benchmarks.study.qualification import make_pool
from benchmarks.study.screens import identity, screens_page, write_pictures
from benchmarks.study.signing import sign
from perfusion_core.errors import UserError, unknown

ONE_TIME = 946_684_800  # 2000-01-01: zip files know no time before 1980


def export(
    run: Path,
    kind: str,
    out: Path,
    design: Design,
    methods: Sequence[str] = (),
    rejected: Sequence[str] = (),
    allow_missing: bool = False,
) -> str:
    """Make the study folder `out`; an earlier export there is replaced as long as it has no
    answers.
    """
    if kind not in KINDS:
        raise unknown("study", kind, KINDS)
    methods = tuple(methods) or DEFAULT_METHODS[kind]
    if not len(methods) == len(set(methods)) == KINDS[kind]:
        raise UserError(
            f"a {kind} study compares {KINDS[kind]} different methods, not {', '.join(methods)}; "
            "name them with --methods"
        )
    check_design(design)
    refuse_to_overwrite(out)
    source = read_source(run, methods)
    tasks, planned = read_tasks(source, methods, design.seed, allow_missing)
    pool = (
        make_pool(source, kind, methods[0], list(rejected), design.qualify, design.seed)
        if design.qualify
        else {}
    )
    key = make_key(run, kind, methods, tasks, pool, planned, design)
    aside = out.absolute().with_name(f".{out.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    write_folder(aside, key, tasks, pool)
    replace(aside, out)
    return export_summary(out, key)


def check_design(design: Design) -> None:
    for name, least in (("responses", 1), ("session", 1), ("qualify", 0), ("repeats", 0)):
        if getattr(design, name) < least:
            raise UserError(f"--{name} is {getattr(design, name)}; it has to be at least {least}")
    if not 0 <= design.pass_mark <= design.qualify:
        raise UserError(
            f"--pass-mark is {design.pass_mark}; it has to be between 0 and --qualify, which is "
            f"{design.qualify}"
        )


def refuse_to_overwrite(out: Path) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "private" / "key.json").is_file():
        raise UserError(f"{out} is there and is not a study; choose another folder with --out")
    if any((out / "answers").glob("*.json")):
        raise UserError(
            f"{out} has answers, which a new export would orphan; choose another folder with --out"
        )
    if any((out / "private" / "loans").glob("*.json")):
        raise UserError(
            f"{out} has handed out sessions, whose answers would be lost; choose another folder "
            f"with --out"
        )
    if (out / "private" / ".lock").exists():
        locks = Locks(out / "private")
        if not locks.try_lock("serve"):
            raise UserError(
                f"{out} is being served; end that server first, or choose another folder with --out"
            )
        locks.unlock("serve")


def make_key(
    run: Path,
    kind: str,
    methods: Sequence[str],
    tasks: Sequence[Task],
    pool: dict[str, Task],
    planned: int,
    design: Design,
) -> dict[str, Any]:
    """What only the organiser has: the secret, which picture is whose, and what every session
    shows.
    """
    secret = secrets.token_hex(32)
    study = sign(secret, "study", length=12)
    known = list(pool.values())
    made = plans.sessions(
        [task.concept for task in tasks], KINDS[kind], [len(task.choices) for task in known], design
    )

    def about_trial(session: int, position: int, trial: plans.Trial) -> dict[str, Any]:
        task = (known if trial.role == plans.QUALIFY else tasks)[trial.task]
        return {**asdict(trial), "id": trial_id(secret, study, session, position, trial, task)}

    return {
        "schema": KEY_SCHEMA,
        "study": study,
        "kind": kind,
        "run": run.resolve().name,
        "methods": list(methods),
        **({"untuned": guessed} if (guessed := guesses_in(run, methods)) else {}),
        "design": asdict(design),
        "secret": secret,
        "planned": planned,
        "tasks": [about_task(task) for task in tasks],
        "pool": [{"name": name, **about_task(task)} for name, task in pool.items()],
        "sessions": [
            {
                "block": block,
                "trials": [
                    about_trial(n, position, trial) for position, trial in enumerate(trials, 1)
                ],
            }
            for n, (block, trials) in enumerate(made, 1)
        ],
    }


def guesses_in(run: Path, methods: Sequence[str]) -> list[str]:
    """Those whose rates were a guess, for the tables: the run may be gone when answers come."""
    return [name for name in untuned_methods(known_run(run)) if name in methods]


def about_task(task: Task) -> dict[str, Any]:
    choices = [
        {"method": c.method, "point": c.point, "index": c.index, "scores": c.scores}
        for c in task.choices
    ]
    about = {name: getattr(task, name) for name in ("concept", "group", "prompt_id", "text")}
    return {**about, "choices": choices}


def trial_id(
    secret: str, study: str, session: int, position: int, trial: plans.Trial, task: Task
) -> str:
    """`session-position-signature`; signed with what is shown, so that no other screen can pass for
    this one.
    """
    shown = [identity(task.choices[place]) for place in trial.order]
    signature = sign(
        secret, study, "trial", session, position, task.concept, task.prompt_id, *shown
    )
    return f"{session}-{position}-{signature}"


def write_folder(
    folder: Path, key: dict[str, Any], tasks: Sequence[Task], pool: dict[str, Task]
) -> None:
    images = folder / "page" / "images"
    try:
        images.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"{folder.parent} cannot hold a study ({error.strerror}); choose another folder with "
            f"--out"
        ) from None
    (folder / "private").mkdir(mode=0o700)
    (folder / "answers").mkdir()
    known = list(pool.values())
    write_pictures(images, key, tasks, known)
    (folder / "page" / "index.html").write_text(screens_page(key, tasks, known), encoding="utf-8")
    write_private(folder / "private", key, pool)
    for path in (folder / "page").rglob("*"):
        # the times of writing would follow the order of the methods
        os.utime(path, (ONE_TIME, ONE_TIME))


def export_summary(out: Path, key: dict[str, Any]) -> str:
    tasks, planned, responses = len(key["tasks"]), key["planned"], key["design"]["responses"]
    screens = [len(session["trials"]) for session in key["sessions"]]
    blocks = max(session["block"] for session in key["sessions"]) + 1
    size = sum(path.stat().st_size for path in (out / "page").rglob("*") if path.is_file()) / 1e6
    return f"""{key["kind"]} study {key["study"]} in {out}
  methods    {", ".join(key["methods"])} from {key["run"]}
  trials     {tasks * responses:,} ({tasks} of {planned} prompts of a concept, {responses} \
responses each)
  sessions   {len(screens)} of {min(screens)} to {max(screens)} screens; blocks: {blocks}, each \
once for a rater
  page       {out / "page"} ({size:.0f} MB): give raters this folder and nothing else
  look at    {out / "private" / "qualification.html"} before anyone is asked
  then       perfbench study serve {out}"""
