"""Adapters of other programs for Stable Diffusion XL's kind: in the U-Net and both text encoders,
whole, as stock diffusers draws with them, and gone afterwards.
"""

import adapter_kit as kit
import numpy as np
import pytest
import torch
from adapter_kit import refused_by_name, used, written
from baselines_kit import apart, stock_draw
from conftest import make_pipe
from xl_kit import WIDTHS, load_word, make_xl, xl_stock

from baselines.adapter import EMBEDDING, PIPELINE, TOKEN, seen
from benchmarks.contract import same, state
from perfusion_core.backbone import Backbone
from perfusion_core.errors import UserError
from perfusion_core.sampling import sample

TEXT = "a photo of sks cat"
SEEDS = [3, 4]  # of stock_draw


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones") / "tiny-xl"
    make_xl().save_pretrained(folder)
    return Backbone.open(folder, device="cpu", dtype="float32")


def held(pipe):
    """A pipeline as a Backbone that was opened from somewhere."""
    for model in (pipe.unet, pipe.vae, pipe.text_encoder, getattr(pipe, "text_encoder_2", None)):
        if model is not None:
            model.requires_grad_(False)
    return Backbone("tiny", None, None, pipe, torch.device("cpu"), torch.float32)


# ---- LoRA ----


@pytest.mark.parametrize("program", kit.FORMATS_XL)
def test_a_lora_of_each_program_is_its_matrices_added_to_the_weights(backbone, tmp_path, program):
    found = kit.matrices_xl(alphas=program == "kohya")
    assert {one.part for one in found} == {"unet", "text_encoder", "text_encoder_2"}
    file = written(tmp_path / "lora.safetensors", kit.FORMATS_XL[program](found))
    before, plain = state(backbone), seen(backbone, TEXT)
    with used(backbone, file):
        mine = seen(backbone, TEXT)
    wanted = seen(held(kit.merged(found, make_xl)), TEXT)
    # float32's own noise here is 0.4 to 1.4e-4 of the change, by float64, on processors that differ
    assert (mine - wanted).abs().max() < 1e-3 * (wanted - plain).abs().max()
    assert same(before, state(backbone)) and torch.equal(plain, seen(backbone, TEXT))


@pytest.mark.parametrize("part", ["unet", "text_encoder", "text_encoder_2"])
def test_a_lora_of_one_part_changes_this_part_alone(backbone, tmp_path, part):
    found = [one for one in kit.matrices_xl() if one.part == part]
    file = written(tmp_path / "lora.safetensors", kit.kohya_xl(found))
    own = {name: getattr(backbone.pipe, name) for name in ("text_encoder", "text_encoder_2")}
    with used(backbone, file):
        mine = seen(backbone, TEXT)
        copied = {name for name, model in own.items() if getattr(backbone.pipe, name) is not model}
    assert copied == {part} & own.keys()
    wanted = seen(held(kit.merged(found, make_xl)), TEXT)
    assert torch.allclose(
        mine, wanted, atol=1e-4 * float((wanted - seen(backbone, TEXT)).abs().max())
    )


def test_stock_diffusers_draws_the_same_with_kohyas_file(backbone, tmp_path):
    file = written(tmp_path / "lora.safetensors", kit.kohya_xl(kit.matrices_xl()))
    stock = xl_stock(backbone)
    plain = stock_draw(stock, backbone, TEXT)
    stock.load_lora_weights(tmp_path, weight_name=file.name)
    theirs = stock_draw(stock, backbone, TEXT)
    with used(backbone, file):
        mine = sample(backbone, TEXT, SEEDS, steps=5)
    assert apart(mine, theirs) <= 1 and apart(plain, theirs) > 10


GOOD, MAPPED = kit.diffusers_scripts(kit.matrices_xl()), kit.kohya_xl(kit.matrices_xl())
UP = next(key for key in GOOD if key.startswith("text_encoder_2.") and "up" in key)
DOWN = UP.replace("up", "down")
HALF = next(key for key in MAPPED if key.startswith("lora_unet_input_blocks") and "up" in key)
BESIDE = {
    f"lora_unet_down_blocks_1_x.lora_{side}.weight": torch.ones(2, 2) for side in ("up", "down")
}
LORAS = {  # what is wrong -> tensors, and what the sentence has to name
    "of 1.x, by kohya": (
        kit.kohya(kit.matrices()),
        "1.x or 2.x, and this backbone is of XL's kind",
    ),
    "of 1.x, by diffusers": (
        {k: v for k, v in kit.diffusers_scripts(kit.matrices()).items() if k.startswith("unet.")},
        "it was trained on another model",
    ),
    "a layer that is not there": (
        GOOD
        | {f"text_encoder_2.x.lora.{side}.weight": torch.ones(2, 2) for side in ("up", "down")},
        "text_encoder_2.x.lora.down.weight",
    ),
    "a third text encoder": (
        GOOD | {"text_encoder_3.x.lora.up.weight": torch.ones(2, 2)},
        "text_encoder_3.x.lora.up.weight",
    ),
    "names of both layouts": (MAPPED | BESIDE, "belong to no layer of Stable Diffusion XL"),
    "a block of no U-Net": (
        MAPPED | {"lora_unet_middle_block_7_x.lora_up.weight": torch.ones(2, 2)},
        "cannot be read as a LoRA",
    ),
    "a part of no block": (
        MAPPED | {"lora_unet_input_blocks_3_9_x.lora_up.weight": torch.ones(2, 2)},
        "cannot be read as a LoRA",
    ),
    "another width": (GOOD | {UP: torch.ones(7, kit.RANK)}, f"{UP} ((7, 3) beside"),
    "half a pair": ({key: value for key, value in GOOD.items() if key != UP}, DOWN),
    "half of kohya's": ({k: v for k, v in MAPPED.items() if k != HALF}, "lora_unet_"),
    "nothing learned": ({k: v * ("up" not in k) for k, v in GOOD.items()}, "changes nothing"),
    "not a number": (GOOD | {UP: GOOD[UP] * float("nan")}, UP),
}


@pytest.mark.parametrize("wrong", LORAS)
def test_a_lora_that_is_not_loaded_whole_is_an_error_that_names_keys(backbone, tmp_path, wrong):
    tensors, named = LORAS[wrong]
    refused_by_name(backbone, written(tmp_path / "lora.safetensors", tensors), named)


def test_a_lora_of_xl_is_none_for_one_text_encoder(tmp_path):
    file = written(tmp_path / "lora.safetensors", MAPPED)
    with (
        pytest.raises(UserError, match="made for Stable Diffusion XL, which this backbone is not"),
        used(held(make_pipe()), file),
    ):
        pass


# ---- embeddings ----


def learned(vectors, seed=1):
    rng = torch.Generator().manual_seed(seed)
    both = zip(("clip_l", "clip_g"), WIDTHS)
    return {key: torch.randn(vectors, width, generator=rng) for key, width in both}


@pytest.mark.parametrize("vectors", [1, 2])
def test_an_embedding_is_a_word_of_its_vectors_in_both_encoders(backbone, tmp_path, vectors):
    tensors = learned(vectors)
    file = written(tmp_path / "word.safetensors", tensors)
    pipe, before = backbone.pipe, state(backbone)
    own = (pipe.tokenizer, pipe.tokenizer_2, pipe.text_encoder, pipe.text_encoder_2)
    with used(backbone, file, EMBEDDING, TOKEN):
        mine = pipe.encode_prompt(f"a photo of {TOKEN} cat", None, "cpu", 1, False)
    other = make_xl()  # where plain words have these vectors
    for key, encoder in zip(("clip_l", "clip_g"), (other.text_encoder, other.text_encoder_2)):
        table = encoder.get_input_embeddings().weight
        for word, vector in zip(["dog", "toy"], tensors[key]):
            [_, place, _] = other.tokenizer(word).input_ids
            table.data[place] = vector
    words = " ".join(["dog", "toy"][:vectors])
    wanted = other.encode_prompt(f"a photo of {words} cat", None, "cpu", 1, False)
    for at in (0, 2):  # encodings, and what is pooled of them
        assert torch.allclose(mine[at], wanted[at], atol=1e-5)
    assert same(before, state(backbone))
    assert (pipe.tokenizer, pipe.tokenizer_2, pipe.text_encoder, pipe.text_encoder_2) == own


def test_stock_diffusers_draws_the_same_with_the_word(backbone, tmp_path):
    file = written(tmp_path / "word.safetensors", learned(1))
    stock = xl_stock(backbone)
    load_word(stock, file, "<mine>")
    theirs = stock_draw(stock, backbone, "a photo of <mine>")
    with used(backbone, file, EMBEDDING, TOKEN):
        mine = sample(backbone, f"a photo of {TOKEN}", SEEDS, steps=5)
    assert apart(mine, theirs) <= 1


def row(encoder):
    return encoder.get_input_embeddings().weight.data[300:301].clone()


PLAIN = {"clip_l": row(make_xl().text_encoder), "clip_g": row(make_xl().text_encoder_2)}
WORDS = {
    "of 1.x": ({"emb_params": torch.ones(1, WIDTHS[0])}, "is clip_l and clip_g, and these are emb"),
    "one of the two": (
        {"clip_l": learned(1)["clip_l"]},
        "is clip_l and clip_g, and these are clip_l",
    ),
    "another width": (learned(1) | {"clip_g": torch.ones(1, 7)}, "clip_g has the shape (1, 7)"),
    "not as many": (
        learned(1) | {"clip_g": learned(2)["clip_g"]},
        "there are 1 in clip_l and 2 in",
    ),
    "more than a prompt has": (learned(31), "takes 1 to 30 vectors"),
    "nothing learned": (PLAIN, "clip_l and clip_g is still the embedding of a plain word"),
    "not a number": (learned(1) | {"clip_g": PLAIN["clip_g"] * float("inf")}, "clip_g"),
}


@pytest.mark.parametrize("wrong", WORDS)
def test_an_embedding_that_does_not_fit_is_an_error(backbone, tmp_path, wrong):
    tensors, named = WORDS[wrong]
    file, before = written(tmp_path / "word.safetensors", tensors), state(backbone)
    with pytest.raises(UserError) as told, used(backbone, file, EMBEDDING, TOKEN):
        pass
    assert named in str(told.value) and "\n" not in str(told.value)
    assert len(str(told.value).split()) <= 40 and same(before, state(backbone))


def test_a_word_learned_in_one_of_the_two_encoders_is_learned(backbone, tmp_path):
    file = written(tmp_path / "word.safetensors", PLAIN | {"clip_g": learned(1)["clip_g"]})
    with used(backbone, file, EMBEDDING, TOKEN):
        pass


# ---- pipelines ----


def test_a_pipeline_draws_as_it_does_itself(backbone, tmp_path):
    make_xl(5).save_pretrained(tmp_path)
    before = state(backbone)
    with used(backbone, tmp_path, PIPELINE):
        mine = seen(backbone, TEXT), sample(backbone, TEXT, SEEDS, steps=2)
    own = Backbone.open(tmp_path, device="cpu", dtype="float32")
    assert torch.equal(mine[0], seen(own, TEXT)) and same(before, state(backbone))
    assert np.array_equal(mine[1], sample(own, TEXT, SEEDS, steps=2))


def test_a_second_text_encoder_alone_is_a_change(backbone, tmp_path):
    pipe, other = make_xl(), make_xl(5)
    pipe.text_encoder_2 = other.text_encoder_2
    pipe.save_pretrained(tmp_path)
    with used(backbone, tmp_path, PIPELINE):
        mine = seen(backbone, TEXT)
    wanted, plain = seen(held(pipe), TEXT), seen(backbone, TEXT)
    # float32's own noise here is 0.4 to 1.4e-4 of the change, by float64, on processors that differ
    assert (mine - wanted).abs().max() < 1e-3 * (wanted - plain).abs().max()


@pytest.mark.parametrize(
    ("theirs", "mine", "said"),
    [
        (make_pipe, make_xl, "is not shaped like that of the backbone tiny"),
        (make_xl, make_pipe, "has text_encoder_2, which the backbone tiny has not"),
    ],
)
def test_a_pipeline_of_the_other_kind_is_one_sentence(tmp_path, theirs, mine, said):
    theirs().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=said) as told, used(held(mine()), tmp_path, PIPELINE):
        pass
    assert "\n" not in str(told.value)
