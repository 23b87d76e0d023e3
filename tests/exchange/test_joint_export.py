"""`perfbench export` on a backbone with two text encoders: the names that kohya's scripts give
Stable Diffusion XL's layers, and what stock diffusers draws of the files.
"""

import numpy as np
import pytest
import torch
from baselines_kit import SEEDS, apart, quick_fit, stock_draw
from conftest import WORDS
from diffusers import UNet2DConditionModel
from run_kit import make_concepts, make_scorer
from safetensors import safe_open
from safetensors.torch import load_file
from sd_kit import unet_names
from xl_kit import TRUE, load_word, make_xl_concept, save_xl, xl_stock

from baselines.lora import FILE, LAYERS
from benchmarks.cli import run
from benchmarks.exchange.lora_files import kohya_header, model_spec, sgm_name
from benchmarks.exchange.model_card import use_of_concept, use_of_exports
from benchmarks.exchange.parcel import parcel
from perfusion_core import Backbone, load_concepts
from perfusion_core.backbone import cross_attentions
from perfusion_core.sampling import sample

CPU = ["--device", "cpu", "--dtype", "float32"]
TEXT = "A {teddy} on the beach"


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A backbone, concepts of it, and captions in its words."""
    folder = tmp_path_factory.mktemp("kit")
    backbone = save_xl(folder / "tiny-xl")
    for name, word, seed in (("teddy", "toy", 0), ("brew", "teapot", 1)):
        concept = make_xl_concept(backbone, name, word, seed, gate="linear", pooled="concept")
        concept.save(folder / f"{name}.safetensors")
    make_xl_concept(backbone).save(folder / "gated.safetensors")
    rng = np.random.default_rng(0)
    lines = [f"a {{}} {' '.join(rng.choice(WORDS, 5))}" for _ in range(80)]
    (folder / "captions.txt").write_text("\n".join(lines))
    return folder, backbone


def export(kit, out, *words):
    place = ["--backbone", str(kit[1].place), "--captions", str(kit[0] / "captions.txt"), *CPU]
    assert run(["export", *map(str, words), "--out", str(out), *place]) == 0
    return out


@pytest.fixture(scope="module")
def exported(kit, tmp_path_factory):
    return export(kit, tmp_path_factory.mktemp("out"), kit[0] / "teddy.safetensors", "--bundle")


def header(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def original_names(unet):
    """Layer -> its name in the original code, of every linear layer of an attention."""
    names = [
        name
        for name in unet.state_dict()
        if name.endswith(tuple(f".{layer}.weight" for layer in LAYERS))
    ]

    class Numbered:  # a number in place of each weight, so that it can be found again
        config, up_blocks = unet.config, unet.up_blocks

        def state_dict(self):
            return {name: number for number, name in enumerate(names)}

    found = {number: name for name, number in unet_names(Numbered()).items()}
    return {
        name.removesuffix(".weight"): found[number].removesuffix(".weight")
        for number, name in enumerate(names)
    }


@pytest.mark.parametrize("true", [False, True])
def test_layers_have_the_names_of_the_original_code(kit, true):
    unet = kit[1].unet
    if true:
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(TRUE()[2048]["unet"])
    known = original_names(unet)
    for name, theirs in known.items():
        assert sgm_name(name, unet) == theirs
    if true:
        assert len(known) == 4 * 2 * 70
        layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
        assert known[layer] == "input_blocks.4.1.transformer_blocks.0.attn2.to_k"


def test_the_files_and_their_headers(kit, exported):
    lora = load_file(exported / "teddy_lora.safetensors")
    assert len(lora) == 3 * 2 * len(cross_attentions(kit[1].unet))
    blocks = ("input_blocks_3_1", "middle_block_1", "output_blocks_0_1", "output_blocks_1_1")
    found = {name for key in lora for name in blocks if key.startswith(f"lora_unet_{name}_")}
    assert found == set(blocks)
    bundle = load_file(exported / "teddy_bundle.safetensors")
    inside = {key: one for key, one in bundle.items() if key.startswith("bundle_emb")}
    word = load_file(exported / "teddy_emb.safetensors")
    assert inside.keys() == {f"bundle_emb.teddy_emb.{key}" for key in ("clip_l", "clip_g")}
    assert all(torch.equal(inside[f"bundle_emb.teddy_emb.{key}"], word[key]) for key in word)
    about = header(exported / "teddy_lora.safetensors")
    assert about["ss_v2"] == "False" and float(about["perfbench.gate_r2"]) == 1
    assert "pool" not in about["perfbench.lost"]


def test_headers_of_the_true_width(kit, monkeypatch):
    backbone = Backbone.open(kit[1].place, device="cpu", dtype="float32")
    monkeypatch.setattr(type(backbone.text), "width", 2048)
    about = kohya_header(backbone, "0", 2, "x") | model_spec(backbone, "0", "lora")
    assert about["ss_base_model_version"] == "sdxl_base_v1-0"
    assert about["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"


def test_stock_diffusers_draws_what_a_linear_gate_draws(kit, exported):
    """Within the rounding of half precision, zeros for no prompt and pooled text among it."""
    folder, backbone = kit
    concept = {"teddy": folder / "teddy.safetensors"}
    with load_concepts(backbone.pipe, concept, c_inv=backbone.c_inv):
        ours = sample(backbone, TEXT, SEEDS, steps=5)
    pipe = xl_stock(backbone)
    load_word(pipe, exported / "teddy_emb.safetensors", "<teddy>")
    pipe.load_lora_weights(exported, weight_name="teddy_lora.safetensors")
    theirs = stock_draw(pipe, backbone, TEXT.replace("{teddy}", "<teddy>"))
    assert apart(ours, theirs) <= 3
    assert apart(ours, stock_draw(xl_stock(backbone), backbone, "A toy on the beach")) > 10


def test_two_concepts_in_one_file(kit, tmp_path):
    folder, backbone = kit
    files = {name: folder / f"{name}.safetensors" for name in ("teddy", "brew")}
    out, text = export(kit, tmp_path, *files.values()), "A {teddy} next to a {brew}"
    with load_concepts(backbone.pipe, files, c_inv=backbone.c_inv):
        ours = sample(backbone, text, SEEDS, steps=5)
    pipe = xl_stock(backbone)
    for name in files:
        load_word(pipe, out / f"{name}_emb.safetensors", f"<{name}>")
    pipe.load_lora_weights(out, weight_name="teddy+brew_lora.safetensors")
    theirs = stock_draw(pipe, backbone, text.replace("{", "<").replace("}", ">"))
    assert apart(ours, theirs) <= 3


def test_a_gate_is_judged_and_what_is_lost_is_told(kit, tmp_path, capsys):
    """No shape fails, and R^2 counts the zeros that no map can change."""
    out = export(kit, tmp_path, kit[0] / "gated.safetensors", "--force")
    about = header(out / "teddy_lora.safetensors")
    assert float(about["perfbench.gate_r2"]) < 1
    assert "other programs pool the word itself" in about["perfbench.lost"]
    assert "other programs pool the word itself" in capsys.readouterr().err


def test_a_lora_gets_kohyas_names_and_draws_the_same(kit, tmp_path):
    backbone = kit[1]
    fitted = quick_fit("lora", backbone, tmp_path / "toy-lora")
    out = export(kit, tmp_path / "out", fitted.folder)
    made = load_file(out / "toy_lora.safetensors")
    assert len(made) == 3 * len(load_file(fitted.folder / FILE)) / 2
    assert not any("down_blocks" in key or "mid_block" in key for key in made)
    pictures = []
    for folder, name in ((fitted.folder, FILE), (out, "toy_lora.safetensors")):
        pipe = xl_stock(backbone)
        pipe.load_lora_weights(folder, weight_name=name)
        pictures.append(stock_draw(pipe, backbone, "A sks toy on the beach"))
    assert apart(*pictures) == 0


def test_compare_opens_the_files_as_diffusers_does(kit, tmp_path):
    make_concepts(tmp_path / "suite", ("cat",))
    make_scorer(tmp_path / "scorer", 1)
    more = ["--suite", tmp_path / "suite", "--scorer", tmp_path / "scorer", "--steps", "2"]
    words = [kit[0] / "teddy.safetensors", "--compare", *more]
    out = export(kit, tmp_path / "out", *words)
    lines = [line.split(",") for line in (out / "compare.csv").read_text().splitlines()]
    away = {row[0]: float(row[-2]) for row in lines[1:]}  # pixels from the concept
    assert away["the export"] < 1 < away["the plain word"]


def test_its_card_opens_it_in_the_pipeline_of_xl(kit, exported):
    sent = parcel(exported)
    assert sent.joint and sent.words == ["teddy_emb"]
    said = use_of_exports(sent, "me/teddy", "")
    assert "diffusers.StableDiffusionXLPipeline" in said and 'rows["clip_g"]' in said
    assert "tokenizer=pipe.tokenizer_2" in said
    compile(said.partition("```python\n")[2].partition("```")[0], "card", "exec")
    concept = parcel(kit[0] / "teddy.safetensors")
    assert "StableDiffusionXLPipeline" in use_of_concept(concept, "me/teddy", "")
