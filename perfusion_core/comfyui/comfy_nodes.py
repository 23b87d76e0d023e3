"""What stands on ComfyUI's canvas: a node that loads a concept, chained for several, and a prompt
whose braces ComfyUI's page leaves alone.

In: files in ComfyUI's folder models/perfusion. Out: MODEL, CLIP and CONDITIONING for its own nodes.
"""

from math import isfinite
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from perfusion_core.comfyui.comfy_gates import gated
from perfusion_core.comfyui.comfy_words import (
    Loaded,
    chain_of,
    check_kind,
    check_text,
    extended,
    refuse_names,
    super_encoding,
    with_concepts,
)
from perfusion_core.concept import FORMAT, Concept, is_word
from perfusion_core.covariance import inverse, lookup_covariance
from perfusion_core.errors import MissingCovariance, UserError, unknown
from perfusion_core.perfusion_settings import BIAS, LOCKS, TEMPERATURE

FOLDER = "perfusion"


def folders() -> list[Path]:
    """ComfyUI's folders for concepts: models/perfusion, and what extra_model_paths.yaml adds."""
    import folder_paths

    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))
    return [Path(folder) for folder in folder_paths.get_folder_paths(FOLDER)]


def concept_files() -> list[str]:
    import folder_paths

    folders()
    names = folder_paths.get_filename_list(FOLDER)
    return [name for name in names if is_concept(folder_paths.get_full_path(FOLDER, name))]


def is_concept(path: str | None) -> bool:
    if path is None or not path.endswith(".safetensors"):
        return False
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False


def path_of(name: str) -> Path:
    import folder_paths

    here = folders()
    if not (path := folder_paths.get_full_path(FOLDER, name)):
        raise UserError(f"there is no concept file {name!r} in {', '.join(map(str, here))}")
    return Path(path)


def c_inv_of(concept: Concept) -> Any:
    """C^-1 of the concept's text encoder: from these folders, their subfolders, or the cache."""
    here = folders()
    inside = [path for folder in here if folder.is_dir() for path in sorted(folder.iterdir())]
    try:
        found = lookup_covariance(
            concept.text_digest, [*here, *inside], concept.backbone.rsplit(" ", 1)[0]
        )
    except MissingCovariance as error:
        raise UserError(
            f"{error}; make it once where the concept was trained, and put it as "
            f"covariance.safetensors into {here[0]} (the node pack's README has the command)"
        ) from error
    return inverse(found.matrix)[0]


def check_inputs(name: str, bias: float, temperature: float, lock: str) -> None:
    """ComfyUI checks what was typed, not what comes from another node."""
    if not is_word(name):
        raise UserError(f"{name!r} cannot stand in a prompt as {{name}}; type a plain word")
    if lock not in LOCKS:
        raise unknown("lock", lock, LOCKS)
    if not (isfinite(bias) and isfinite(temperature) and temperature > 0):
        raise UserError(
            f"the bias {bias} and temperature {temperature} of {name!r} have to be numbers, and "
            f"the temperature above 0; usual are {BIAS} and {TEMPERATURE}"
        )


class LoadConcept:
    """A concept file for a checkpoint of Stable Diffusion 1.x or 2.x; chain nodes for several."""

    DESCRIPTION = "{name} in a prompt means this concept. Several: one node after the other."
    CATEGORY = "loaders"
    FUNCTION = "load"
    RETURN_TYPES = ("MODEL", "CLIP")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        number = {"min": -1.0, "max": 2.0, "step": 0.01, "round": 0.001}
        bias = {"tooltip": "Where the gate opens: lower is more concept, higher more prompt."}
        sharp = {"tooltip": "How sharply the gate opens."}
        lock = {"tooltip": "local: keys of the concept's word; global: of the whole prompt."}
        word = {"tooltip": "What stands in prompts as {name}; empty: the file's own name for it."}
        force = {"tooltip": "Take a concept of a very different text encoder all the same."}
        return {
            "required": {
                "model": ("MODEL",),
                "clip": ("CLIP",),
                "concept": (concept_files(),),
                "bias": ("FLOAT", {"default": BIAS, **number, **bias}),
                "temperature": (
                    "FLOAT",
                    {"default": TEMPERATURE, **number, "min": 0.01, "max": 1.0, **sharp},
                ),
                "lock": (list(LOCKS), {"default": LOCKS[0], **lock}),
            },
            "optional": {
                "name": ("STRING", {"default": "", **word}),
                "force": ("BOOLEAN", {"default": False, **force}),
            },
        }

    @classmethod
    def IS_CHANGED(cls, concept: str, **_: Any) -> float:
        return path_of(concept).stat().st_mtime

    def load(
        self,
        model: Any,
        clip: Any,
        concept: str,
        bias: float,
        temperature: float,
        lock: str,
        name: str = "",
        force: bool = False,
    ) -> tuple[Any, Any]:
        read, before = Concept.load(path_of(concept)), chain_of(clip)
        called = name.strip(" {}") or read.placeholder
        check_inputs(called, bias, temperature, lock)
        if (model.get_attachment("perfusion") or {}) != before.loaded:
            raise UserError(
                "this MODEL and this CLIP have different concepts; connect both from the same node"
            )
        plain = before.tokenizer.tokenize_with_weights
        check_kind(clip, called, read)
        e_super = super_encoding(clip, plain, read.super_category)
        check_text(clip, called, read, e_super, force)
        chain = extended(before, called, Loaded(read, bias, temperature, lock, e_super))
        return gated(model, chain.loaded, c_inv_of(read)), with_concepts(clip, chain)


class ConceptPrompt:
    """ComfyUI's text encode, but that {name} reaches it as it was typed."""

    DESCRIPTION = "A prompt in which {name} is a concept. ComfyUI's own needs \\{name\\}."
    CATEGORY = "conditioning"
    FUNCTION = "encode"
    RETURN_TYPES = ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        text = {"multiline": True, "dynamicPrompts": False, "default": "a photo of a {teddy}"}
        return {"required": {"text": ("STRING", text), "clip": ("CLIP",)}}

    def encode(self, text: str, clip: Any) -> tuple[Any]:
        refuse_names(text, chain_of(clip).loaded)
        return (clip.encode_from_tokens_scheduled(clip.tokenize(text)),)


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "PerfusionLoadConcept": LoadConcept,
    "PerfusionPrompt": ConceptPrompt,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "PerfusionLoadConcept": "Load Perfusion Concept",
    "PerfusionPrompt": "Prompt with Perfusion Concepts",
}
