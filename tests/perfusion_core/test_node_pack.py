"""ComfyUI's node pack without ComfyUI: how it is found, and what it loads. What it does is in
test_comfyui.py.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from conftest import make_pipe

import perfusion_core
from perfusion_core.comfyui.comfy_words import PlainWeights
from perfusion_core.weight_digests import text_digest, text_shape

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


def test_the_text_encoder_has_one_name_in_both_programs():
    """Its weights as ComfyUI's patcher gives them out: under its own names, with patches behind."""
    encoder = make_pipe().text_encoder
    start = "clip_l.transformer.text_model."
    weights = {name.removeprefix("text_model."): w for name, w in encoder.named_parameters()}
    keys = {start + name: [(weight.half(), str), "a patch"] for name, weight in weights.items()}
    keys[f"{start}encoder.layers.{encoder.config.num_hidden_layers}.mlp.fc1.bias"] = [(None, str)]
    clip = SimpleNamespace(patcher=SimpleNamespace(get_key_patches=lambda prefix: keys))
    plain = PlainWeights(clip, "clip_l", encoder.config.num_hidden_layers)
    assert text_digest(plain) == text_digest(encoder)
    assert text_shape(plain) == text_shape(encoder)
    name = next(key for key in keys if key.endswith("fc2.bias"))
    keys[name] = [(-1 - keys[name][0][0].abs(), str)]
    other = PlainWeights(clip, "clip_l", encoder.config.num_hidden_layers)
    assert text_digest(other) != text_digest(encoder)
