"""Imports go down the floors of the house; light modules import neither torch nor pandas; paths
have one home.
"""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in ("perfusion_core", "baselines", "benchmarks")
    for path in sorted((ROOT / package).rglob("*.py"))
}
PURE = [f"planning.{name}" for name in ("config", "units", "plan", "points", "methods")]
PURE += [
    f"running.{name}"
    for name in ("tasks", "driver", "missing_rows", "forecast", "progress", "flags", "listing")
]
PURE += [
    "cli",
    "disk",
    "paths",
    "suite.catalog",
    "store.run_folder",
    "store.reading",
    "store.csv_files",
    "store.packed",
    "store.unit_cache",
    "store.cache_verbs",
    "store.command",
]
PURE += [
    "store.packing",
    "scoring.cell_row",
    "running.command",
    "running.fit_command",
    "figures.command",
    "suite.command",
    "site.command",
]
# numpy, pandas, scipy; no torch
NUMERIC = [f"tables.{name}" for name in ("statistics", "build", "gate", "comparable")] + ["api"]
# The floors of the house, top to bottom: a module imports from its own room and from the floors
# below it, never from above or beside. docs/architecture.md draws this list.
FLOORS = [
    ["cli"],
    ["evidence"],
    ["site"],
    ["study", "api"],
    ["exchange"],
    ["figures"],
    ["speed", "contract"],
    ["running"],
    ["tables"],
    ["store"],
    ["planning"],
    ["scoring"],
    ["miniature"],
    ["suite"],
    ["advice", "devices", "digests", "disk", "options", "paths", "verb"],
    ["safe_paths"],
    ["baselines"],
    ["perfusion_core"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imported(path: Path, everywhere: bool = True) -> set[str]:
    """Modules that a file imports; of `from a import b`, both a and a.b."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if everywhere else tree.body
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def arrows() -> list[tuple[str, str]]:
    """Every import of one of our modules by another, inside functions too, as names of modules."""
    known = {name.removesuffix(".__init__"): path for name, path in MODULES.items()}
    return [
        (name, other)
        for name, path in known.items()
        for other in sorted(imported(path) & known.keys() - {name})
        if "." in other
    ]


def room_of(module: str) -> str:
    package, *rest = module.split(".")
    return rest[0] if package == "benchmarks" and rest else package


def test_every_room_has_its_floor():
    for module in MODULES:
        assert room_of(module) in FLOOR or module == "benchmarks.__init__", (
            f"{module} is in no room of FLOORS"
        )


def test_imports_go_down():
    for module, other in arrows():
        room, below = room_of(module), room_of(other)
        assert room == below or FLOOR[room] < FLOOR[below], (
            f"{module} imports {other}, which is not below it"
        )


def test_no_circles():
    """Modules in an order in which each comes after all that it imports; graphlib names a
    circle.
    """
    graph: dict[str, set[str]] = {}
    for module, other in arrows():
        graph.setdefault(module, set()).add(other)
    TopologicalSorter(graph).prepare()


def picture_of_the_floors() -> str:
    """The floors as docs/architecture.md shows them: a room a line, with the first line of what it
    says of itself.
    """
    lines = []
    for rooms in FLOORS:
        for room in rooms:
            places = [
                ROOT / "benchmarks" / room / "__init__.py",
                ROOT / "benchmarks" / f"{room}.py",
                ROOT / room / "__init__.py",
            ]
            place = next((place for place in places if place.is_file()), None)
            if place:
                said = (
                    ast.get_docstring(ast.parse(place.read_text(encoding="utf-8"))) or ""
                ).partition("\n")[0]
                lines.append(f"{room:<15}{said}")
        lines.append("")
    return re.sub(r"\n{2,}", "\n\n", "\n".join(lines)).strip()


def test_the_page_shows_the_floors():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    shown = page.partition("```floors\n")[2].partition("\n```")[0]
    assert shown == picture_of_the_floors(), (
        f"docs/architecture.md should show:\n{picture_of_the_floors()}"
    )


def test_every_room_names_its_modules():
    """The reading order at the top of a room is whole: no module is met that was not introduced."""
    for place in sorted((ROOT / "benchmarks").rglob("__init__.py")):
        room = place.parent
        if room.name == "benchmarks":
            continue
        said = ast.get_docstring(ast.parse(place.read_text(encoding="utf-8"))) or ""
        modules = {path.stem for path in room.glob("*.py")} - {"__init__", "__main__"}
        unnamed = {name for name in modules if not re.search(rf"\b{name}\b", said)}
        assert not unnamed, f"{place.relative_to(ROOT)} does not name {sorted(unnamed)}"


def test_a_module_has_a_name_of_its_own():
    """grep for a module's name finds one; a room's verbs are in its command.py."""
    names = [path.stem for path in MODULES.values()]
    shared = {name for name in names if names.count(name) > 1}
    assert shared <= {"__init__", "command"}


def test_few_files_lie_at_the_root():
    assert len(list((ROOT / "benchmarks").glob("*.py"))) <= 12


@pytest.mark.parametrize(
    ("names", "heavy"), [(PURE, "torch diffusers pandas"), (NUMERIC, "torch diffusers")]
)
def test_light_modules_load_without(names, heavy):
    code = (
        "import sys, importlib\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module('benchmarks.' + name)\n"
        f"    for heavy in {heavy.split()!r}:\n"
        "        if heavy in sys.modules: print(name, 'loads', heavy)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert loaded.stdout == ""


def test_the_core_knows_no_command():
    """Its sentences say what is missing; benchmarks/advice.py adds what to type. Names of its data
    stay as they are.
    """
    # a format, a variable, the folder of the cache
    data = ('"perfbench-covariance-1"', '"PERFBENCH_CACHE"', '/ "perfbench"')
    for name, path in MODULES.items():
        if name.startswith(("perfusion_core.", "baselines.")):
            text = path.read_text(encoding="utf-8")
            for known in data:
                text = text.replace(known, "")
            assert "perfbench" not in text.lower(), name


def test_the_harness_asks_no_method_for_its_name():
    """What is particular to a method, its own file says. `evidence` speaks of the paper, and may
    name methods.
    """
    from benchmarks.planning.methods import BUILT_IN

    for module, path in MODULES.items():
        if room_of(module) in ("evidence", "perfusion_core", "baselines"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                values = {one.value for one in ast.walk(node) if isinstance(one, ast.Constant)}
                assert not values & BUILT_IN.keys(), f"{module}, line {node.lineno}"


def test_only_the_store_builds_paths_of_a_run():
    """The folders of a run folder are named in one module; readers ask it."""
    parts = re.compile(r"""["'](images|rows|fits|priors|failed)["']""")
    for name, path in MODULES.items():
        if not name.startswith("benchmarks.") or name == "benchmarks.store.run_folder":
            continue
        built = [
            line
            for line in path.read_text(encoding="utf-8").splitlines()
            if re.search(r"/\s*" + parts.pattern, line)
        ]
        runs = [line for line in built if "run" in line or "root" in line or "store" in line]
        assert not runs, f"{name}: {runs}"


def test_no_pickle_is_read():
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        assert "torch.load(" not in text and "pickle.load" not in text, name
