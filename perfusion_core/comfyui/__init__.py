"""Concepts in ComfyUI, with their gates: a node pack. `README.md` beside this file says how to use
it.

Reading order: comfy_words (a prompt's concepts in ComfyUI's tokens), comfy_gates (the edit in
ComfyUI's model), comfy_nodes (what stands on the canvas). Needs torch, safetensors and ComfyUI; no
diffusers, no transformers of its own. ComfyUI loads this folder by its path, so the package around
it is looked for where the folder really lies.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("perfusion_core") is None:
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    if find_spec("perfusion_core") is None:
        raise ImportError("this folder was copied out of its repository: link it instead (README)")

from perfusion_core.comfyui.comfy_nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
