"""Adapters of other programs in a pipeline: whole, as their numbers say, and gone afterwards."""

import json
from types import SimpleNamespace

import adapter_kit as kit
import pytest
import torch
from adapter_kit import refused_by_name, used, written
from conftest import make_pipe
from safetensors.torch import load_file, save_file

from baselines import adapter
from baselines.adapter import EMBEDDING, LORA, PIPELINE, TOKEN, seen
from benchmarks.contract import same, state
from perfusion_core.backbone import Backbone
from perfusion_core.errors import UserError
from perfusion_core.subject import Fitted

TEXT = "a photo of sks cat"


def held(pipe):
    """A pipeline as a Backbone that was opened from somewhere."""
    for model in (pipe.unet, pipe.vae, pipe.text_encoder):
        model.requires_grad_(False)
    return Backbone("tiny", None, None, pipe, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def backbone():
    return held(make_pipe())


# ---- LoRA ----


@pytest.mark.parametrize("program", kit.FORMATS)
def test_a_lora_of_each_program_is_its_matrices_added_to_the_weights(backbone, tmp_path, program):
    found = kit.matrices(alphas=program == "kohya")
    if program == "processors":
        found = [one for one in found if one.part == "unet" and ".to_" in one.module]
    file = written(tmp_path / "lora.safetensors", kit.FORMATS[program](found))
    before, plain = state(backbone), seen(backbone, TEXT)
    with used(backbone, file):
        mine = seen(backbone, TEXT)
    wanted = seen(held(kit.merged(found)), TEXT)
    assert (mine - wanted).abs().max() < 1e-4 * (wanted - plain).abs().max()
    assert same(before, state(backbone)) and torch.equal(plain, seen(backbone, TEXT))


def test_apply_reads_what_the_fit_says_and_writes_the_trigger(backbone, tmp_path):
    written(tmp_path / adapter.FILE, kit.kohya(kit.matrices()))
    about = {"name": "mine", "kind": LORA, "trigger": "sks {}"}
    (tmp_path / adapter.ABOUT).write_text(json.dumps(about))
    before = state(backbone)
    with (
        pytest.raises(KeyboardInterrupt),
        adapter.apply(backbone, {"my_cat": Fitted(tmp_path, "cat")}, {}) as write,
    ):
        assert write("A {my_cat} on the beach") == "A sks cat on the beach"
        raise KeyboardInterrupt
    assert same(before, state(backbone))


GOOD = kit.diffusers_scripts(kit.matrices())
KOHYA = kit.kohya(kit.matrices())
DOWN, UP = (next(key for key in GOOD if side in key) for side in ("down", "up"))
FIRST = next(iter(KOHYA)).partition(".")[0]
LORAS = {  # what is wrong -> tensors, and what the sentence has to name
    "a layer that is not there": (
        GOOD | {f"unet.extra.lora.{side}.weight": torch.ones(2, 2) for side in ("up", "down")},
        "unet.extra.lora.down.weight",
    ),
    "kohya's of a layer that is not there": (
        KOHYA
        | {f"lora_unet_extra.lora_{side}.weight": torch.ones(2, 2) for side in ("up", "down")},
        "lora_unet_extra.lora_down.weight",
    ),
    "a key of nothing": (GOOD | {"note": torch.ones(1)}, "note"),
    "an alpha of nothing": (KOHYA | {"lora_unet_x.alpha": torch.tensor(1.0)}, "lora_unet_x.alpha"),
    "an alpha of two": (KOHYA | {f"{FIRST}.alpha": torch.ones(2)}, f"{FIRST}.alpha"),
    "another width": (GOOD | {UP: torch.ones(7, kit.RANK)}, f"{UP} ((7, 3) beside"),
    "half a pair": ({key: value for key, value in GOOD.items() if key != UP}, DOWN),
    "half of kohya's": (
        {key: value for key, value in KOHYA.items() if key != f"{FIRST}.lora_up.weight"},
        f"{FIRST}.lora_up.weight",
    ),
    "DoRA": (KOHYA | {f"{FIRST}.dora_scale": torch.ones(4, 1)}, f"{FIRST}.dora_scale"),
    "LoHa": ({"lora_unet_x.hada_w1_a": torch.ones(2, 2)}, "lora_unet_x.hada_w1_a"),
    "of SDXL": (KOHYA | {"lora_te2_x.lora_up.weight": torch.ones(2, 2)}, "Stable Diffusion XL"),
    "nothing learned": (
        {key: value * ("up" not in key) for key, value in GOOD.items()},
        "changes nothing",
    ),
    "not a number": (GOOD | {UP: GOOD[UP] * float("nan")}, UP),
}


@pytest.mark.parametrize("wrong", LORAS)
def test_a_lora_that_is_not_loaded_whole_is_an_error_that_names_keys(backbone, tmp_path, wrong):
    tensors, named = LORAS[wrong]
    refused_by_name(backbone, written(tmp_path / "lora.safetensors", tensors), named)


def test_what_diffusers_would_leave_out_is_found_afterwards(backbone, tmp_path, monkeypatch):
    """The proof looks at the pipeline, not at what was meant to be loaded."""
    file = written(tmp_path / "lora.safetensors", GOOD)
    load = type(backbone.pipe).load_lora_weights
    part = {key: value for key, value in GOOD.items() if key not in (UP, DOWN)}

    def forgetful(pipe, _, adapter_name, **__):
        load(pipe, part, adapter_name=adapter_name)

    monkeypatch.setattr(type(backbone.pipe), "load_lora_weights", forgetful)
    with pytest.raises(UserError, match="left 2 of its keys out") as told, used(backbone, file):
        pass
    assert UP in str(told.value) or DOWN in str(told.value)


HEADERS = {  # of LoraConfig, as a file of anybody may have it
    "what is no option": {"unet.r": 3, "unet.danger": True},
    "DoRA": {"unet.r": 3, "unet.lora_alpha": 3, "unet.use_dora": True},
    "weights of the base": {"unet.r": 3, "unet.lora_alpha": 3, "unet.init_lora_weights": "pissa"},
    "no configuration": ["r"],
}


@pytest.mark.parametrize("wrong", HEADERS)
def test_a_header_that_asks_for_more_is_an_error_or_does_nothing(tmp_path, wrong):
    backbone, targets = held(make_pipe()), [one.module for one in kit.matrices()]
    header, file = HEADERS[wrong], tmp_path / "lora.safetensors"
    if isinstance(header, dict):
        header = header | {"unet.target_modules": [t for t in targets if ".to_" in t]}
    found = [one for one in kit.matrices() if ".to_" in one.module]
    tensors = {k: v.contiguous() for k, v in kit.diffusers_scripts(found).items()}
    save_file(tensors, file, {"lora_adapter_metadata": json.dumps(header)})
    before = state(backbone)
    try:
        with used(backbone, file):
            mine = seen(backbone, TEXT)
    except UserError as told:
        assert "mine" in str(told) and "\n" not in str(told)
    else:
        wanted = seen(held(kit.merged(found)), TEXT)
        assert torch.allclose(mine, wanted, atol=1e-4)
        assert same(before, state(backbone))


def test_alpha_in_the_header_counts(backbone, tmp_path):
    """Recent scripts of diffusers write LoraConfig into the file."""
    found = [one for one in kit.matrices() if ".to_" in one.module]
    header = {"unet.r": 3, "unet.lora_alpha": 6, "unet.target_modules": [o.module for o in found]}
    tensors = {k: v.contiguous() for k, v in kit.peft(found).items()}
    file = tmp_path / "lora.safetensors"
    save_file(tensors, file, {"lora_adapter_metadata": json.dumps(header)})
    with used(backbone, file):
        mine = seen(backbone, TEXT)
    for one in found:
        one.alpha = 6
    wanted = seen(held(kit.merged(found)), TEXT)
    assert (mine - wanted).abs().max() < 1e-4 * (wanted - seen(backbone, TEXT)).abs().max()


# ---- embeddings ----


@pytest.mark.parametrize("vectors", [1, 2])
def test_an_embedding_is_a_word_of_its_vectors(backbone, tmp_path, vectors):
    learned = torch.randn(vectors, 32, generator=torch.Generator().manual_seed(1))
    file = written(tmp_path / "word.safetensors", {"emb_params": learned})
    before, own = state(backbone), (backbone.pipe.tokenizer, backbone.pipe.text_encoder)
    with used(backbone, file, EMBEDDING, TOKEN):
        mine = backbone.pipe.encode_prompt(f"a photo of {TOKEN} cat", "cpu", 1, False)[0]
    other = held(make_pipe())  # where plain words have these vectors
    words = ["dog", "toy"][:vectors]
    table = other.text_encoder.get_input_embeddings().weight
    for word, vector in zip(words, learned):
        [_, place, _] = other.tokenizer(word).input_ids
        table.data[place] = vector
    wanted = other.encode([f"a photo of {' '.join(words)} cat"])
    assert torch.allclose(mine, wanted, atol=1e-5)
    assert same(before, state(backbone))
    assert (backbone.pipe.tokenizer, backbone.pipe.text_encoder) == own


PLAIN_WORD = make_pipe().text_encoder.get_input_embeddings().weight.data[300:301].clone()
WORDS = {
    "another width": ({"emb_params": torch.ones(1, 7)}, "(1, 7)"),
    "no vector": ({"emb_params": torch.ones(0, 32)}, "(0, 32)"),
    "more than a prompt has": ({"emb_params": torch.ones(31, 32)}, "(31, 32)"),
    "of SDXL": ({"clip_l": torch.ones(1, 32), "clip_g": torch.ones(1, 64)}, "clip_g, clip_l"),
    "nothing learned": ({"<mine>": PLAIN_WORD}, "<mine>"),
    "not a number": ({"<mine>": PLAIN_WORD * float("inf")}, "<mine>"),
}


@pytest.mark.parametrize("wrong", WORDS)
def test_an_embedding_that_does_not_fit_is_an_error(backbone, tmp_path, wrong):
    tensors, named = WORDS[wrong]
    file = written(tmp_path / "word.safetensors", tensors)
    with pytest.raises(UserError) as told, used(backbone, file, EMBEDDING, TOKEN):
        pass
    assert named in str(told.value) and "\n" not in str(told.value)


# ---- pipelines ----


def other_pipe(seed: int = 5, **changes):
    return make_pipe(seed, **changes)


def test_a_pipeline_draws_as_it_does_itself(backbone, tmp_path):
    other_pipe().save_pretrained(tmp_path)
    before = state(backbone)
    with used(backbone, tmp_path, PIPELINE):
        mine = seen(backbone, TEXT)
        assert not same(before, state(backbone))
    own = Backbone.open(tmp_path, device="cpu", dtype="float32")
    assert torch.equal(mine, seen(own, TEXT))
    assert same(before, state(backbone))


def changed_file(folder, change):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, {"format": "pt"})


def other_scheduler(folder):
    file = folder / "scheduler" / "scheduler_config.json"
    about = json.loads(file.read_text())
    file.write_text(json.dumps(about | {"prediction_type": "v_prediction"}))


def other_heads(part, key, number):
    """The weights stay, and with them every shape."""

    def change(folder):
        file = folder / part / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: number}))

    return change


FOLDERS = {
    "other heads": (
        other_heads("unet", "attention_head_dim", 4),
        "attn1.heads, and the backbone tiny has 2: its config.json is of another model",
    ),
    "other heads of words": (
        other_heads("text_encoder", "num_attention_heads", 2),
        "self_attn.num_heads, and the backbone tiny has 4",
    ),
    "other groups": (
        other_heads("vae", "norm_num_groups", 4),
        "num_groups, and the backbone tiny has 8",
    ),
    "a key too few": (lambda f: changed_file(f, lambda t: t.pop("conv_in.bias")), "conv_in.bias"),
    "a key too many": (
        lambda f: changed_file(f, lambda t: t.update(extra=torch.ones(1))),
        "extra",
    ),
    "another scheduler": (other_scheduler, "v_prediction"),
    "another width": (lambda f: other_pipe(width=16).save_pretrained(f), "attn2.to_k.weight"),
    "the backbone itself": (lambda f: make_pipe().save_pretrained(f), "changes nothing"),
}


@pytest.mark.parametrize("wrong", FOLDERS)
def test_a_pipeline_that_is_not_whole_is_an_error(backbone, tmp_path, wrong):
    break_it, named = FOLDERS[wrong]
    other_pipe().save_pretrained(tmp_path)
    break_it(tmp_path)
    before = state(backbone)
    with pytest.raises(UserError) as told, used(backbone, tmp_path, PIPELINE):
        pass
    assert named in str(told.value) and "\n" not in str(told.value)
    assert same(before, state(backbone))


def test_nothing_is_trained_here():
    with pytest.raises(UserError, match="trained elsewhere"):
        adapter.fit(SimpleNamespace())
