"""Files of one method given for another by `--trained`: one sentence in the plan, before anything
is trained or drawn, for every method alike.

Fits are written here by the names of their files and tensors, as those of each method are:
test_method_contract.py holds true ones against what the methods' files say.
"""

import shutil
from pathlib import Path

import pytest
import torch
from run_kit import reference, run_here, shared
from safetensors.torch import save_file

from benchmarks.planning.method_text import said_of
from benchmarks.planning.methods import BUILT_IN
from benchmarks.running.trained_kinds import refuse_other_kinds
from perfusion_core.errors import UserError

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
KNOWN = {name: said_of(where) for name, where in BUILT_IN.items()}
UNET = {"unet/diffusion_pytorch_model.safetensors": ["conv_in.weight", f"{LAYER}.to_k.weight"]}
WORD = {"learned_embeds.safetensors": ["<cat>"]}
SIDES = [f"{LAYER}.processor.to_k_custom_diffusion.weight", "mid_block.attn1.processor"]
LORA = [f"unet.{LAYER}.to_k.lora.down.weight", f"unet.{LAYER}.to_k.lora.up.weight"]


def peft(*ends: str) -> dict[str, list[str]]:
    return {"adapter_model.safetensors": [f"base_model.model.{LAYER}.to_k.{end}" for end in ends]}


FITS: dict[str, dict[str, list[str]]] = {
    "perfusion": {"concept.safetensors": ["embedding", "i_star", "o_v", "super_encoding"]},
    "db": UNET,
    "ti": WORD,
    "cd": {
        "pytorch_custom_diffusion_weights.safetensors": SIDES,
        "<new1>.safetensors": ["<new1>"],
    },
    "lora": {"pytorch_lora_weights.safetensors": LORA},
    "dora": peft("lora_A.weight", "lora_B.weight", "lora_magnitude_vector.weight"),
    "loha": peft("hada_w1_a", "hada_w2_b"),
    "lokr": peft("lokr_w1", "lokr_w2"),
    "oft": peft("oft_R.weight"),
    "pivotal": {"cat_lora.safetensors": LORA, "cat_emb.safetensors": ["<cat>"]},
    "xti": {"xti.safetensors": ["IN01", "MID", "OUT11"]},
    "attndreambooth": {**UNET, **WORD},
}
FITS["classdiffusion"] = FITS["cd"]
ALIKE = {"cd": "cd or classdiffusion", "classdiffusion": "cd or classdiffusion"}


def written(folder: Path, files: dict[str, list[str]]) -> dict[str, Path]:
    """Tensors of these names, with a header that says what `--trained` asks of one file."""
    for name, tensors in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        told = {"format": "pt", "super_category": "cat"}
        save_file({key: torch.zeros(2) for key in tensors}, folder / name, told)
    return {name: folder / name for name in files}


def refusal(files: dict[str, Path], wanted: str) -> str:
    with pytest.raises(UserError) as caught:
        refuse_other_kinds("--trained", files, wanted, KNOWN)
    said = str(caught.value)
    assert "\n" not in said and len(said.split()) <= 40
    return said


def test_every_trained_method_has_a_fit_here():
    assert set(FITS) == {name for name, said in KNOWN.items() if said.trained}


@pytest.mark.parametrize("theirs", FITS)
def test_a_fit_is_taken_by_its_own_method_and_by_no_other(theirs, tmp_path):
    files = written(tmp_path, FITS[theirs])
    states = files | {f"step-5/{name}": path for name, path in files.items()}
    for wanted in FITS:
        if FITS[wanted] == FITS[theirs]:
            refuse_other_kinds("--trained", states, wanted, KNOWN)
            continue
        said = refusal(states, wanted)
        named = ALIKE.get(theirs, theirs)
        assert said.endswith(f" is of {named}, and a file of {wanted} is wanted"), said
        assert said.removeprefix("--trained: ").startswith(str(tmp_path))


def test_a_kept_state_of_another_method_is_refused(tmp_path):
    files = written(tmp_path / "end", FITS["lora"])
    kept = written(tmp_path / "step", FITS["loha"])
    states = files | {f"step-5/{name}": path for name, path in kept.items()}
    assert "is of loha, and a file of lora is wanted" in refusal(states, "lora")


def test_files_of_diffusers_own_scripts_are_taken(tmp_path):
    """A word of any name, weights in shards or half precision, an older LoRA's keys."""
    fits = {
        "ti": {"learned_embeds.safetensors": ["my_toy"]},
        "db": {
            "unet/diffusion_pytorch_model-00001-of-00002.safetensors": ["conv_in.weight"],
            "unet/diffusion_pytorch_model-00002-of-00002.safetensors": ["up_blocks.0.conv.bias"],
        },
        "lora": {
            "pytorch_lora_weights.safetensors": [f"unet.{LAYER}.processor.to_k_lora.up.weight"]
        },
    }
    for name, files in fits.items():
        refuse_other_kinds("--trained", written(tmp_path / name, files), name, KNOWN)


def test_a_file_under_another_name_is_known_by_its_tensors(tmp_path):
    [path] = written(
        tmp_path, {"cat.safetensors": FITS["oft"]["adapter_model.safetensors"]}
    ).values()
    assert "cat.safetensors is of oft, and" in refusal({"concept.safetensors": path}, "perfusion")
    [path] = written(tmp_path, {"dog.safetensors": ["head.weight"]}).values()
    assert "is of no method that is known here" in refusal({"cat/dog.safetensors": path}, "lora")


# ---- by the command ----


def planned(out: Path, name: str, place: Path) -> str:
    call = ["--methods", name, "--concepts", "cat", "--trained", f"{name}={place}"]
    with pytest.raises(UserError) as caught:
        run_here(shared(), out, *call)
    assert not out.exists()
    return str(caught.value)


@pytest.mark.parametrize("name", ["xti", "cd", "ti-selected"])
def test_a_concept_file_of_perfusion_is_none_of_another_method(name, tmp_path):
    """As people pass them on: one file a concept, or a folder with it."""
    [concept] = reference().glob("fits/perfusion/cat-*/concept.safetensors")
    place = tmp_path / "theirs"
    (place / "cat").mkdir(parents=True)
    shutil.copyfile(concept, place / "cat" / "concept.safetensors")
    base = name.removesuffix("-selected")
    assert planned(tmp_path / "run", name, place) == (
        f"--trained {name}={place}: {place}/cat/concept.safetensors is of perfusion, and a file "
        f"of {base} is wanted"
    )


def test_a_concept_file_of_perfusion_is_none_of_another_method_of_one_file(tmp_path):
    [concept] = reference().glob("fits/perfusion/cat-*/concept.safetensors")
    shutil.copyfile(concept, tmp_path / "cat.safetensors")
    assert planned(tmp_path / "run", "xti", tmp_path) == (
        f"--trained xti={tmp_path}: {tmp_path}/cat.safetensors is of perfusion, and a file of xti "
        f"is wanted"
    )


def test_a_lora_is_no_concept_of_perfusion(tmp_path):
    written(tmp_path / "cat", FITS["lora"])
    said = planned(tmp_path / "run", "perfusion", tmp_path)
    assert "pytorch_lora_weights.safetensors is of lora, and a file of perfusion is wanted" in said
