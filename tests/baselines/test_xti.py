"""P+: each layer reads the prompt with its own embedding, as stock diffusers draws it and kohya's
scripts open it; other files are named in a sentence.
"""

import ast
import os
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from baselines_kit import SEEDS, apart, ours, quick_fit, stock_draw, stock_pipe, subject
from conftest import make_pipe
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from baselines import xti
from baselines.layered_word import LayeredWord, encode_text, layer_names, layer_of_each, of_layers
from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.errors import UserError
from perfusion_core.prompts import Word, encode
from perfusion_core.sampling import prepared
from perfusion_core.subject import Fitted

TEXT = "A {teddy} on the beach"
# XTI_layers in kohya-ss/sd-scripts, in the order in which its loader lays them one behind another
KOHYA = [f"IN{n:02}" for n in (1, 2, 4, 5, 7, 8)] + ["MID"] + [f"OUT{n:02}" for n in range(3, 12)]


@pytest.fixture(scope="module")
def fits(tiny_backbone, tmp_path_factory):
    """Of two concepts."""
    made = tmp_path_factory.mktemp("xti")
    return {
        "teddy": quick_fit("xti", tiny_backbone, made / "teddy"),
        "brew": quick_fit("xti", tiny_backbone, made / "brew", subject("brew", "teapot")),
    }


def of_shape(**config) -> Backbone:
    """A U-Net without memory: only its layers are asked about."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    return Backbone("bare", Path("."), None, SimpleNamespace(unet=unet), torch.device("cpu"), None)


# ---- layers ----


def test_layers_have_kohyas_names_on_stable_diffusion():
    sd15 = of_shape(sample_size=64, cross_attention_dim=768)
    assert layer_names(sd15) == KOHYA
    layers = layer_of_each(sd15).items()
    by_place = {name.partition(".transformer_blocks")[0]: layer for name, layer in layers}
    # the blocks of the original code: 1, 2 are of the first level down, 9 to 11 of the last one up
    assert by_place["down_blocks.0.attentions.1"] == "IN02"
    assert by_place["down_blocks.2.attentions.0"] == "IN07"
    assert by_place["mid_block.attentions.0"] == "MID"
    assert by_place["up_blocks.1.attentions.0"] == "OUT03"
    assert by_place["up_blocks.3.attentions.2"] == "OUT11"


def test_layers_are_named_in_the_order_in_which_they_are_passed(tiny_backbone):
    """Of a U-Net whose levels have one layer each; the tiny one has no text in its second level."""
    called, layers = [], layer_of_each(tiny_backbone)

    def see(name):
        return lambda *_: called.append(layers[name])

    with ExitStack() as hooks, torch.no_grad():
        for name, module in cross_attentions(tiny_backbone.unet).items():
            hooks.callback(module.register_forward_pre_hook(see(name)).remove)
        text = torch.zeros(1, 3, 32)
        tiny_backbone.unet(torch.zeros(1, 4, 8, 8), 10, encoder_hidden_states=text)
    assert called == layer_names(tiny_backbone) == ["IN01", "MID", "OUT02", "OUT03"]


def test_levels_of_different_depth():
    """Two layers above, one below: the way up counts from below."""
    backbone = of_shape(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=(2, 1),
        norm_num_groups=8,
        cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
    )
    ways = ["IN01", "IN02", "IN04", "MID", "OUT00", "OUT01", "OUT02", "OUT03", "OUT04"]
    assert layer_names(backbone) == ways


# ---- each layer its own ----


def test_a_layers_part_is_the_prompt_with_its_own_vector(tiny_backbone):
    """And its gradient goes to that vector alone."""
    rng, layers = torch.Generator().manual_seed(1), layer_names(tiny_backbone)
    vectors = {layer: torch.randn(32, generator=rng).requires_grad_() for layer in layers}

    def plain(texts):
        return encode(tiny_backbone.text_encoder, tiny_backbone.tokenizer, texts, {})[0]

    whole = encode_text(tiny_backbone, TEXT, {"teddy": LayeredWord("toy", vectors)}, plain)
    for number, part in enumerate(whole.split(32, dim=-1)):
        words = {"teddy": Word("toy", vectors[layers[number]])}
        alone, _ = encode(tiny_backbone.text_encoder, tiny_backbone.tokenizer, [TEXT], words)
        torch.testing.assert_close(part, alone)
        gradients = torch.autograd.grad(part.sum(), list(vectors.values()), retain_graph=True)
        assert [bool(one.any()) for one in gradients] == [n == number for n in range(4)]


def test_k_and_v_take_the_part_of_their_layer(tiny_backbone):
    layers = layer_of_each(tiny_backbone)
    wide = torch.randn(2, 5, 4 * 32, generator=torch.Generator().manual_seed(2))
    with of_layers(tiny_backbone), torch.no_grad():
        for name, module in cross_attentions(tiny_backbone.unet).items():
            number = layer_names(tiny_backbone).index(layers[name])
            for side in (module.to_k, module.to_v):
                own = wide[..., 32 * number : 32 * (number + 1)] @ side.weight.T
                torch.testing.assert_close(side(wide), own)
                torch.testing.assert_close(side(wide[..., :32]), wide[..., :32] @ side.weight.T)


def test_k_and_v_are_made_once_a_prompt_and_layer(tiny_backbone, fits):
    """The text encoder reads a row a layer where the concept is named, and one row elsewhere."""
    rows = []
    handle = tiny_backbone.text_encoder.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(len(args[0])), with_kwargs=True
    )
    try:
        with xti.apply(tiny_backbone, fits, {}):
            rows.clear()
            prepared(tiny_backbone, [TEXT] * 3, [1, 2, 3], 6.0)
    finally:
        handle.remove()
    assert rows == [4, 1]


def test_other_texts_are_read_as_without_it(tiny_backbone, fits):
    plain = tiny_backbone.pipe.encode_prompt("A cat", "cpu", 1, False)[0]
    with xti.apply(tiny_backbone, fits, {}):
        wide = tiny_backbone.pipe.encode_prompt("A cat", "cpu", 1, False)[0]
    assert torch.equal(wide, plain.repeat(1, 1, 4))


def test_several_concepts_stand_in_one_prompt(tiny_backbone, fits):
    with xti.apply(tiny_backbone, fits, {}):
        both = tiny_backbone.pipe.encode_prompt("A {teddy} in a {brew}", "cpu", 1, False)[0]
    with xti.apply(tiny_backbone, {"teddy": fits["teddy"]}, {}):
        one = tiny_backbone.pipe.encode_prompt("A {teddy} in a teapot", "cpu", 1, False)[0]
    torch.testing.assert_close(both[:, :5], one[:, :5])
    assert not torch.allclose(both[:, 5:], one[:, 5:], atol=1e-2)


def test_a_prompt_of_several_and_a_negative_one(tiny_backbone, fits):
    """The pipeline's own call, with all that it may be told."""
    with xti.apply(tiny_backbone, fits, {}):
        many, against = tiny_backbone.pipe.encode_prompt(
            [TEXT, "A {brew}"], "cpu", 2, True, negative_prompt="A toy"
        )
        assert many.shape == against.shape == (4, 32, 4 * 32)
        one = tiny_backbone.pipe.encode_prompt("A {brew}", "cpu", 1, False)[0]
        torch.testing.assert_close(many[2:3], one)
        torch.testing.assert_close(
            against[:1], tiny_backbone.pipe.encode_prompt("A toy", "cpu", 1, False)[0]
        )


# ---- in other programs ----


def with_a_word_a_layer(pipe, file: Path, text: str, images: int) -> ExitStack:
    """Stock diffusers in which every vector is a word of its own, as in kohya's scripts, and every
    cross-attention is handed the prompt with its layer's word, until the stack is closed.
    """
    for layer, vector in load_file(file).items():
        pipe.load_textual_inversion({f"<teddy>_{layer}": vector}, token=f"<teddy>_{layer}")
    backbone = Backbone("stock", Path("."), None, pipe, torch.device("cpu"), torch.float32)
    layers, modules, hooks = layer_of_each(backbone), cross_attentions(pipe.unet), ExitStack()

    def handing(layer):
        spoken = text.replace("{teddy}", f"<teddy>_{layer}")
        own, plain = pipe.encode_prompt(spoken, "cpu", images, True)
        both = torch.cat([plain, own])
        return lambda _, args, kwargs: (args, {**kwargs, "encoder_hidden_states": both})

    for name, layer in layers.items():
        handle = modules[name].register_forward_pre_hook(handing(layer), with_kwargs=True)
        hooks.callback(handle.remove)
    return hooks


def test_stock_diffusers_draws_the_same_with_a_word_a_layer(tiny_backbone, fits):
    pipe, base = stock_pipe(tiny_backbone), "A toy on the beach"
    plain = stock_draw(pipe, tiny_backbone, base)
    with with_a_word_a_layer(pipe, fits["teddy"].folder / xti.ONE_FILE, TEXT, len(SEEDS)):
        theirs = stock_draw(pipe, tiny_backbone, base)
    assert apart(ours("xti", tiny_backbone, {"teddy": fits["teddy"]}, TEXT), theirs) <= 1
    assert apart(plain, theirs) > 10


@pytest.fixture(scope="module")
def of_sixteen(tmp_path_factory):
    """A fit on a U-Net with the levels of Stable Diffusion, narrow ones."""
    pipe = make_pipe()
    torch.manual_seed(1)
    pipe.unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8,) * 4,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=32,
    ).requires_grad_(False)
    pipe.vae.requires_grad_(False)
    pipe.text_encoder.requires_grad_(False)
    backbone = Backbone("narrow", Path("."), None, pipe, torch.device("cpu"), torch.float32)
    return quick_fit("xti", backbone, tmp_path_factory.mktemp("sixteen"), steps=2).folder


def test_the_file_is_what_kohyas_scripts_take(of_sixteen):
    """Sixteen tensors of [vectors, d], which they lay one behind another as they come."""
    tensors = load_file(of_sixteen / xti.ONE_FILE)
    assert list(tensors) == KOHYA and {tuple(one.shape) for one in tensors.values()} == {(1, 32)}
    assert len({one.numpy().tobytes() for one in tensors.values()}) == 16


@pytest.mark.slow
def test_kohyas_own_loader_takes_it(of_sixteen):
    """PERFBENCH_SD_SCRIPTS names a clone of kohya-ss/sd-scripts; its function alone is run."""
    script = Path(os.environ.get("PERFBENCH_SD_SCRIPTS", ""), "train_textual_inversion_XTI.py")
    if not script.is_file():
        pytest.skip("PERFBENCH_SD_SCRIPTS names no clone of kohya-ss/sd-scripts")
    found = [
        node
        for node in ast.parse(script.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == "load_weights"
    ]
    scope = {"os": os, "torch": torch}
    exec(compile(ast.Module(found, []), str(script), "exec"), scope)
    theirs = scope["load_weights"](str(of_sixteen / xti.ONE_FILE))
    ours_ = load_file(of_sixteen / xti.ONE_FILE)
    assert torch.equal(theirs, torch.cat([ours_[layer] for layer in KOHYA]))


# ---- other files ----

WRONG = {
    "a layer that is not there": (
        lambda one: one | {"OUT12": one["MID"].clone()},
        "unknown layer of .* 'OUT12'; did you mean 'OUT02'",
    ),
    "a layer too few": (
        lambda one: {name: one[name] for name in one if name != "MID"},
        "has no embedding for the layer MID of",
    ),
    "a textual inversion": (
        lambda one: {"<teddy>": one["MID"]},
        r"is not a file of P\+, which has embeddings named IN01 to OUT03 and not <teddy>",
    ),
    "nothing": (lambda one: {}, "and not nothing; give one that xti trained"),
    "numbers that are none": (
        lambda one: one | {"MID": torch.full((1, 32), float("inf"))},
        "holds numbers that are not finite, in MID",
    ),
    "two vectors": (
        lambda one: one | {"MID": torch.zeros(2, 32)},
        r"has a MID of the shape \(2, 32\), and one vector of 32 numbers is wanted",
    ),
    "another model's": (
        lambda one: one | {"MID": torch.zeros(1, 16)},
        r"has a MID of the shape \(1, 16\), and one vector of 32 numbers is wanted",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_another_file_is_one_sentence(what, tiny_backbone, fits, tmp_path):
    change, says = WRONG[what]
    tensors = load_file(fits["teddy"].folder / xti.ONE_FILE)
    save_file(change(tensors), tmp_path / xti.ONE_FILE)
    with pytest.raises(UserError, match=says) as caught:
        refused(tiny_backbone, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_one_sentence(tiny_backbone, tmp_path):
    (tmp_path / xti.ONE_FILE).write_bytes(b"no tensors")
    with pytest.raises(UserError, match="is no safetensors file, or it is damaged"):
        refused(tiny_backbone, tmp_path)
    (tmp_path / xti.ONE_FILE).unlink()
    with pytest.raises(UserError, match=r"has no xti.safetensors; name a trained folder"):
        refused(tiny_backbone, tmp_path)


def refused(backbone, folder):
    with xti.apply(backbone, {"teddy": Fitted(folder, "toy")}, {}):
        pytest.fail("it was applied")


def test_a_name_that_was_not_loaded_is_told_by_its_own_name(tiny_backbone, fits):
    with (
        xti.apply(tiny_backbone, {"teddy": fits["teddy"]}, {}),
        pytest.raises(UserError, match=r"unknown concept in the prompt 'brew' \(known: teddy\)"),
    ):
        tiny_backbone.pipe.encode_prompt("A {brew}", "cpu", 1, False)
