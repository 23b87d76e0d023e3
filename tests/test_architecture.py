"""Imports point one way (docs/architecture.md); light modules import neither torch nor pandas; paths have one home."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in ("perfusion_core", "baselines", "benchmarks")
    for path in sorted((ROOT / package).rglob("*.py"))
}
PURE = [f"planning.{name}" for name in ("config", "units", "plan", "points", "methods")]
PURE += [f"running.{name}" for name in ("tasks", "driver", "missing_rows", "forecast", "progress", "flags", "listing")]
PURE += ["cli", "disk", "paths", "suite.catalog", "store.run_folder", "store.csv_files"]
PURE += ["running.command", "running.fit_command", "figures.command", "suite.command"]
NUMERIC = [f"tables.{name}" for name in ("statistics", "build", "gate", "comparable")]  # numpy, pandas, scipy; no torch
CORE_MAY = {"perfusion_core"}
BASELINES_MAY = {"perfusion_core", "baselines"}


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


def ours(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names} & {"perfusion_core", "baselines", "benchmarks"}


def test_packages_point_one_way():
    for name, path in MODULES.items():
        if name.startswith("perfusion_core"):
            assert ours(imported(path)) <= CORE_MAY, name
        elif name.startswith("baselines"):
            assert ours(imported(path)) <= BASELINES_MAY, name


def test_nothing_imports_the_command():
    for name, path in MODULES.items():
        assert name == "benchmarks.cli" or "benchmarks.cli" not in imported(path), name


def test_the_plan_knows_nothing_of_the_work():
    """cli -> run verbs -> plan, work, score -> methods -> perfusion_core; readers -> tables -> stats."""
    running = {"running.worker", "running.driver", "running.engines", "running.run"}
    drawn = {"figures.plots", "figures.report.report_page"}
    above = {
        "planning.units": {"planning.plan", "store.run_folder", "running.worker", "suite.catalog"},
        "planning.plan": {"store.run_folder", *running, "planning.backbones", "planning.methods"},
        "store.run_folder": {*running, "planning.backbones", "planning.methods", "tables.build"},
        "running.worker": {"running.driver", "running.engines", "running.run", "tables.build", *drawn},
        "scoring.similarity": {*running, "planning.plan", "planning.units", "store.run_folder", "tables.build"},
        "tables.statistics": {"tables.build", "store.run_folder", "planning.plan", "tables.gate", "figures.plots"},
        "tables.build": {*running, *drawn, "tables.gate"},
    }
    for name, forbidden in above.items():
        clash = {f"benchmarks.{other}" for other in forbidden} & imported(MODULES[f"benchmarks.{name}"])
        assert not clash, f"{name} imports {clash}"


@pytest.mark.parametrize(("names", "heavy"), [(PURE, "torch diffusers pandas"), (NUMERIC, "torch diffusers")])
def test_light_modules_load_without(names, heavy):
    code = (
        "import sys, importlib\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module('benchmarks.' + name)\n"
        f"    for heavy in {heavy.split()!r}:\n"
        "        if heavy in sys.modules: print(name, 'loads', heavy)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout == ""


def test_only_the_store_builds_paths_of_a_run():
    """The folders of a run folder are named in one module; readers ask it."""
    parts = re.compile(r"""["'](images|rows|fits|priors|failed)["']""")
    for name, path in MODULES.items():
        if not name.startswith("benchmarks.") or name == "benchmarks.store.run_folder":
            continue
        built = [
            line for line in path.read_text(encoding="utf-8").splitlines() if re.search(r"/\s*" + parts.pattern, line)
        ]
        runs = [line for line in built if "run" in line or "root" in line or "store" in line]
        assert not runs, f"{name}: {runs}"


def test_no_pickle_is_read():
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        assert "torch.load(" not in text and "pickle.load" not in text, name
