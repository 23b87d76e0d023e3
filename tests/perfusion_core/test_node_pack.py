"""ComfyUI's node pack without ComfyUI: how it is found, and what it loads. What it does is in
test_comfyui.py.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import perfusion_core

PACK = Path(perfusion_core.__file__).parent / "comfyui"
# as ComfyUI's loader does it, in a Python that knows nothing of this repository
LOAD = """
import importlib.util, sys
from pathlib import Path
sys.path[:] = [p for p in sys.path if not (Path(p) / "perfusion_core").is_dir()]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f)]
place = Path(sys.argv[1]) / "__init__.py"
spec = importlib.util.spec_from_file_location("custom_x_nodes", place)
module = importlib.util.module_from_spec(spec)
sys.modules["custom_x_nodes"] = module
spec.loader.exec_module(module)
heavy = [name for name in ("diffusers", "transformers", "datasets", "peft") if name in sys.modules]
print(sorted(module.NODE_CLASS_MAPPINGS), sorted(module.NODE_DISPLAY_NAME_MAPPINGS), heavy)
"""


def load(place, cwd):
    words = [sys.executable, "-c", LOAD, place]
    clean = {"PYTHONPATH": "", "PATH": ""}
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=clean)


def test_a_link_finds_its_package_and_loads_nothing_heavy(tmp_path):
    (tmp_path / "perfusion").symlink_to(PACK)
    told = load(tmp_path / "perfusion", tmp_path)
    names = "['PerfusionLoadConcept', 'PerfusionPrompt']"
    assert told.stdout == f"{names} {names} []\n", told.stderr


def test_a_copy_says_that_a_link_is_wanted(tmp_path):
    shutil.copytree(PACK, tmp_path / "perfusion", ignore=shutil.ignore_patterns("__pycache__"))
    told = load(tmp_path / "perfusion", tmp_path)
    assert "link it instead" in told.stderr.strip().rpartition("\n")[2]
