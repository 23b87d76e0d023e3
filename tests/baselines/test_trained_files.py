"""Trained files that are of another kind, damaged, not whole or not finite: one sentence, and the
backbone as it was.

Of LoRA, Textual Inversion, DreamBooth and AttnDreamBooth. The others' stand in their own tests.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from baselines_kit import apart, ours, quick_fit
from safetensors.torch import load_file, save_file

from baselines import lora, textual_inversion
from baselines.parts import stamps
from benchmarks.planning.methods import load_method
from perfusion_core.errors import UserError
from perfusion_core.subject import Fitted

UNET = "unet/diffusion_pytorch_model.safetensors"
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def folders(tiny_backbone, tmp_path_factory) -> dict[str, Path]:
    """A fit of each; one of AttnDreamBooth is a U-Net and a word as the others leave them."""
    made = tmp_path_factory.mktemp("fits")
    for name in ("lora", "ti", "db"):
        quick_fit(name, tiny_backbone, made / name, steps=2)
    shutil.copytree(made / "db", made / "attndreambooth")
    shutil.copy(made / "ti" / textual_inversion.FILE, made / "attndreambooth")
    return {name: made / name for name in ("lora", "ti", "db", "attndreambooth")}


def refused(name: str, backbone, folder: Path) -> str:
    before = stamps(backbone)
    fits = {"teddy": Fitted(folder, "toy")}
    with pytest.raises(UserError) as caught, load_method(name).apply(backbone, fits, {}):
        pytest.fail("it was applied")
    assert stamps(backbone) == before
    said = str(caught.value)
    assert "\n" not in said and len(said.split()) <= 40
    return said


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda one: {name: one[name] for name in one if part not in name}


def renamed(a: str, b: str) -> Callable[[Tensors], Tensors]:
    return lambda one: {name.replace(a, b): one[name] for name in one}


def broken(one: Tensors) -> Tensors:
    first = min(one)
    return one | {first: torch.full_like(one[first], float("nan"))}


def wider(one: Tensors) -> Tensors:
    return {name: torch.ones(*(side + 1 for side in tensor.shape)) for name, tensor in one.items()}


def kohyas(one: Tensors) -> Tensors:
    ends = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}
    ends |= {"lora.down.weight": "lora_down.weight", "lora.up.weight": "lora_up.weight"}
    found = {}
    for name, tensor in one.items():
        end = next(end for end in ends if name.endswith(end))
        layer = name.removesuffix(f".{end}").replace(".", "_")
        found[f"lora_{layer}.{ends[end]}"] = tensor
    return found


OTHER = {"<teddy>": torch.ones(32)}
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v."
LORAS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "a matrix missing": (without(f"{LAYER}lora.down"), "the other matrix of unet.mid_block"),
    "a layer missing": (without(LAYER), f"has no unet.{LAYER[:-1]}, which lora on the backbone"),
    "an unknown layer": (renamed(LAYER, "mid_block.to_v."), "has no layers for 2 of its keys"),
    "another kind": (lambda one: OTHER, "its 1 keys cannot be used: <teddy>"),
    "another shape": (wider, "layers do not fit the backbone"),
    "not finite": (broken, "holds numbers that are not finite, in unet."),
    "kohya's keys": (kohyas, "has keys of kohya's scripts, such as lora_unet_"),
}


def test_names_in_the_file_are_those_that_are_changed_here(folders):
    assert f"unet.{LAYER}lora.down.weight" in load_file(folders["lora"] / lora.FILE)


@pytest.mark.parametrize("what", LORAS)
def test_a_lora_that_is_not_whole(what, tiny_backbone, folders, tmp_path):
    change, says = LORAS[what]
    save_file(change(load_file(folders["lora"] / lora.FILE)), tmp_path / lora.FILE)
    assert says in refused("lora", tiny_backbone, tmp_path)


@pytest.mark.parametrize("layers", ["cross", "values"])
def test_a_lora_of_some_layers_acts_there_alone(layers, tiny_backbone, tmp_path):
    ends = tuple(f".{one}" for one in lora.WHERE[layers])
    quick_fit("lora", tiny_backbone, tmp_path, steps=2, layers=layers)
    held = load_file(tmp_path / lora.FILE)
    assert {name.partition(".lora")[0].endswith(ends) for name in held} == {True}
    before = stamps(tiny_backbone)
    with load_method("lora").apply(tiny_backbone, {"teddy": Fitted(tmp_path, "toy")}, {}):
        now = {name.partition(".lora_")[0] for name in stamps(tiny_backbone) if ".lora_" in name}
        assert now and all(name.endswith(ends) for name in now)
    assert stamps(tiny_backbone) == before
    one = min(held).partition(".lora")[0]
    save_file({key: held[key] for key in held if one not in key}, tmp_path / lora.FILE)
    assert "which lora on" in refused("lora", tiny_backbone, tmp_path)


def test_a_lora_whose_header_asks_for_other_matrices(tiny_backbone, folders, tmp_path):
    asked = {"unet.r": 4, "unet.lora_alpha": 4, "unet.use_dora": True}
    asked |= {"unet.target_modules": ["to_q", "to_k", "to_v", "to_out.0"]}
    header = {"format": "pt", "lora_adapter_metadata": json.dumps(asked)}
    save_file(load_file(folders["lora"] / lora.FILE), tmp_path / lora.FILE, header)
    said = refused("lora", tiny_backbone, tmp_path)
    assert "diffusers has " in said or "cannot be loaded by diffusers" in said


TEXTS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "two words": (lambda one: one | {"<b>": torch.zeros(32)}, "has no <name>, which ti on"),
    "another width": (wider, "<teddy> has the shape (33,), and ti on"),
    "two vectors": (lambda one: {"<teddy>": torch.ones(2, 32)}, "has the shape (2, 32), and ti on"),
    "not finite": (broken, "holds numbers that are not finite, in <teddy>"),
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_word_of_another_kind(what, tiny_backbone, folders, tmp_path):
    change, says = TEXTS[what]
    tensors = load_file(folders["ti"] / textual_inversion.FILE)
    save_file(change(tensors), tmp_path / textual_inversion.FILE)
    assert says in refused("ti", tiny_backbone, tmp_path)


def test_a_word_as_diffusers_script_writes_it_is_drawn_with(tiny_backbone, folders, tmp_path):
    """As one row, and not as a vector."""
    tensors = load_file(folders["ti"] / textual_inversion.FILE)
    rows = {name: vector[None] for name, vector in tensors.items()}
    save_file(rows, tmp_path / textual_inversion.FILE)
    mine, theirs = (
        ours("ti", tiny_backbone, {"teddy": Fitted(folder, "toy")}, "A {teddy}")
        for folder in (folders["ti"], tmp_path)
    )
    assert apart(mine, theirs) == 0


UNETS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "a weight missing": (without("conv_in.bias"), "(missing keys): conv_in.bias"),
    "a weight too many": (lambda one: one | {"more": torch.ones(1)}, "(unexpected keys): more"),
    "another kind": (lambda one: OTHER, "its unet "),
    "not finite": (broken, "its unet holds numbers that are not finite, in conv_in.bias"),
}


@pytest.mark.parametrize("what", UNETS)
@pytest.mark.parametrize("name", ["db", "attndreambooth"])
def test_a_unet_that_is_not_whole(name, what, tiny_backbone, folders, tmp_path):
    change, says = UNETS[what]
    shutil.copytree(folders[name], tmp_path, dirs_exist_ok=True)
    save_file(change(load_file(tmp_path / UNET)), tmp_path / UNET, {"format": "pt"})
    assert says in refused(name, tiny_backbone, tmp_path)


def test_a_unet_whose_configuration_is_none(tiny_backbone, folders, tmp_path):
    shutil.copytree(folders["db"], tmp_path, dirs_exist_ok=True)
    for text in ("", "[]", '{"block_out_channels": 3}'):
        (tmp_path / "unet" / "config.json").write_text(text)
        assert "its unet cannot be opened" in refused("db", tiny_backbone, tmp_path)


@pytest.mark.parametrize("name", ["db", "attndreambooth"])
def test_a_unet_of_other_heads(name, tiny_backbone, folders, tmp_path):
    """Its weights have the same shapes, and it would draw something else without a word."""
    shutil.copytree(folders[name], tmp_path, dirs_exist_ok=True)
    file = tmp_path / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"attention_head_dim": 4}))
    said = refused(name, tiny_backbone, tmp_path)
    assert "has 4 in " in said and ".heads, and the backbone " in said
    assert said.endswith(" has 2: its config.json is of another model")


@pytest.mark.parametrize(
    ("name", "file", "gone"),
    [
        ("lora", lora.FILE, f"has no {lora.FILE}; name a trained folder"),
        ("ti", textual_inversion.FILE, f"has no {textual_inversion.FILE}; name a trained folder"),
        ("db", UNET, "its unet cannot be opened"),
        ("attndreambooth", UNET, "its unet cannot be opened"),
    ],
)
def test_a_file_that_is_damaged_or_missing(name, file, gone, tiny_backbone, folders, tmp_path):
    shutil.copytree(folders[name], tmp_path, dirs_exist_ok=True)
    (tmp_path / file).write_bytes(b"torn")
    said = refused(name, tiny_backbone, tmp_path)
    assert "or it is damaged" in said or "its unet cannot be opened" in said
    (tmp_path / file).unlink()
    assert gone in refused(name, tiny_backbone, tmp_path)
