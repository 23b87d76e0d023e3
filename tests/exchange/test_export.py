"""`perfbench export`: what stock diffusers and kohya's own loader make of the files, what their
headers say, and what is refused."""

import dataclasses
import importlib.util
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from baselines_kit import SEEDS, apart, quick_fit, stock_draw
from conftest import WORDS, make_concept, make_pipe
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_all_state_dict_to_peft, convert_state_dict_to_kohya
from hostile_kit import command, refused
from PIL import Image
from run_kit import shared
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from baselines.lora import FILE
from benchmarks.cli import run
from benchmarks.exchange.lora_files import kohya_header, model_spec
from benchmarks.paths import miniature_dir
from perfusion_core import Backbone, Concept, load_concepts
from perfusion_core.backbone import cross_attentions
from perfusion_core.sampling import sample

SHIPPED = Path(__file__).parent.parent.parent / "results" / "miniature-concepts"
CPU = ["--device", "cpu", "--dtype", "float32"]


def header(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.fixture(scope="module")
def miniature():
    return Backbone.open(miniature_dir(), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def cat(tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "cat"
    assert (
        run(["export", str(SHIPPED / "cat.safetensors"), "--out", str(out), "--bundle", *CPU]) == 0
    )
    return out


def stock_pipe(backbone):
    """diffusers' own; the miniature's files are in half precision, which the CPU mixes badly."""
    pipe = StableDiffusionPipeline.from_pretrained(
        backbone.place, safety_checker=None, requires_safety_checker=False, dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = backbone.scheduler()
    return pipe


def opened_by_stock(backbone, folder, names):
    """A pipeline of diffusers' own with the files, opened as its documentation has it."""
    pipe = stock_pipe(backbone)
    for name in names:
        pipe.load_textual_inversion(folder / f"{name}_emb.safetensors")
    pipe.load_lora_weights(folder, weight_name=f"{'+'.join(names)}_lora.safetensors")
    return pipe


def both(backbone, folder, concepts, text, **point):
    """What `load_concepts` draws, and what stock diffusers draws of the export."""
    with load_concepts(backbone.pipe, concepts, c_inv=backbone.c_inv, **point):
        ours = sample(backbone, text, SEEDS, steps=5)
    theirs = text.replace("{", "<").replace("}", ">")
    return ours, stock_draw(opened_by_stock(backbone, folder, list(concepts)), backbone, theirs)


def distance(a, b):
    return np.abs(a.astype(float) - b).mean()


def test_stock_diffusers_draws_what_the_gate_draws(miniature, cat):
    concept = Concept.load(SHIPPED / "cat.safetensors")
    ours, theirs = both(miniature, cat, {"cat": concept}, "A {cat} on the beach")
    assert distance(ours, theirs) < 3
    plain = stock_draw(stock_pipe(miniature), miniature, "A cat on the beach")
    assert distance(ours, plain) > 15


def test_a_linear_gate_is_exported_exactly(miniature, tmp_path):
    """Within the rounding of half precision, at any bias."""
    concept = dataclasses.replace(Concept.load(SHIPPED / "cat.safetensors"), gate="linear")
    concept.save(tmp_path / "cat.safetensors")
    words = ["export", str(tmp_path / "cat.safetensors"), "--bias", "0.3", *CPU]
    assert run([*words, "--out", str(tmp_path / "out")]) == 0
    about = header(tmp_path / "out" / "cat_lora.safetensors")
    assert about["ss_network_dim"] == "1" and float(about["perfbench.gate_r2"]) == 1
    assert all(float(v) < 1e-3 for name, v in about.items() if name.startswith("perfbench.error"))
    ours, theirs = both(miniature, tmp_path / "out", {"cat": concept}, "A {cat} on the moon")
    assert apart(ours, theirs) <= 2 and distance(ours, theirs) < 0.1


def test_two_concepts_in_one_file(miniature, tmp_path):
    files = {"cat": SHIPPED / "cat.safetensors", "pot": SHIPPED / "teapot.safetensors"}
    words = [str(files["cat"]), f"pot={files['pot']}", "--bias", "cat=0.5,pot=0.6"]
    assert run(["export", *words, "--out", str(tmp_path), *CPU]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cat+pot_lora.safetensors",
        "cat_emb.safetensors",
        "pot_emb.safetensors",
    ]
    about = header(tmp_path / "cat+pot_lora.safetensors")
    assert about["ss_network_dim"] == "4" and about["perfbench.concepts"] == "cat=cat pot=teapot"
    assert about["perfbench.bias"] == "0.5 0.6"
    text = "A {cat} next to a {pot} in the snow"
    ours, theirs = both(miniature, tmp_path, files, text, bias={"cat": 0.5, "pot": 0.6})
    assert distance(ours, theirs) < 6


def test_the_files_and_their_headers(miniature, cat):
    concept = Concept.load(SHIPPED / "cat.safetensors")
    [(word, vector)] = load_file(cat / "cat_emb.safetensors").items()
    assert word == "<cat>" and torch.equal(vector, concept.embedding[None])
    lora = load_file(cat / "cat_lora.safetensors")
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    down, up = lora[f"{name}.lora_down.weight"], lora[f"{name}.lora_up.weight"]
    assert down.dtype == up.dtype == torch.float16 and float(lora[f"{name}.alpha"]) == 2
    assert torch.allclose(down.float().norm(dim=1), up.float().norm(dim=0), rtol=1e-2)
    assert len(lora) == 3 * 2 * len(concept.o_v)
    bundle = load_file(cat / "cat_bundle.safetensors")
    inside = {key: bundle.pop(key) for key in list(bundle) if key.startswith("bundle_emb")}
    assert inside.keys() == {"bundle_emb.cat_emb.string_to_param.*"}
    assert bundle.keys() == lora.keys() and torch.equal(*inside.values(), vector)
    about = header(cat / "cat_lora.safetensors")
    assert about["ss_network_module"] == "networks.lora" and about["ss_network_alpha"] == "2.0"
    assert about["modelspec.sai_model_spec"] == "1.0.1"
    assert about["modelspec.trigger_phrase"] == "cat_emb"
    assert "ss_base_model_version" not in about  # the miniature is none of kohya's
    assert 0.9 < float(about["perfbench.gate_r2"]) < 1
    assert 0 < float(about["perfbench.error_word_k"]) < float(about["perfbench.error_prompt_k"])
    assert "bias" in about["perfbench.lost"] and miniature.digest in about["perfbench.backbone"]
    assert not any("/" in value for key, value in about.items() if key.startswith("perfbench"))


@pytest.mark.parametrize(
    ("width", "prediction", "version", "architecture"),
    [
        (768, "epsilon", "sd_v1", "stable-diffusion-v1"),
        (1024, "epsilon", "sd_v2", "stable-diffusion-v2-512"),
        (1024, "v_prediction", "sd_v2_v", "stable-diffusion-v2-768-v"),
    ],
)
def test_headers_of_stable_diffusion(width, prediction, version, architecture):
    pipe = make_pipe(width=width, layers=1)
    pipe.scheduler.register_to_config(prediction_type=prediction)
    backbone = Backbone("sd", Path("."), None, pipe, torch.device("cpu"), torch.float32)
    about = kohya_header(backbone, "0", 2, "x") | model_spec(backbone, "0", "lora")
    assert about["ss_base_model_version"] == version
    assert about["ss_v2"] == str(width == 1024)
    assert about["modelspec.architecture"] == f"{architecture}/lora"


def test_the_same_export_has_the_same_bytes_and_leaves_the_concept(cat, tmp_path):
    source = SHIPPED / "cat.safetensors"
    before = source.read_bytes()
    assert run(["export", str(source), "--out", str(tmp_path), *CPU]) == 0
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (cat / path.name).read_bytes()
    assert source.read_bytes() == before


# ---- on the tiny backbone, whose text encoder is random ----


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """Concepts of the tiny backbone, and captions in its words."""
    folder, place = tmp_path_factory.mktemp("kit"), shared() / "tiny"
    backbone = Backbone.open(place, device="cpu", dtype="float32")
    for name, word in (("cat", "cat"), ("teddy", "toy")):
        make_concept(backbone, name, word).save(folder / f"{name}.safetensors")
    rng = np.random.default_rng(0)
    lines = [f"a {{}} {' '.join(rng.choice(WORDS, 5))}" for _ in range(80)]
    (folder / "captions.txt").write_text("\n".join(lines))
    return folder, ["--backbone", str(place), "--captions", str(folder / "captions.txt"), *CPU]


def test_layers_in_another_order_export_the_same(miniature, cat, tmp_path):
    layers = tuple(cross_attentions(miniature.unet))
    concept = Concept.load(SHIPPED / "cat.safetensors")
    turned = dataclasses.replace(concept, names=layers[::-1], o_v=concept.o_v[::-1])
    turned.save(tmp_path / "cat.safetensors")
    assert run(["export", str(tmp_path / "cat.safetensors"), "--out", str(tmp_path), *CPU]) == 0
    here, there = (load_file(folder / "cat_lora.safetensors") for folder in (tmp_path, cat))
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)


def test_below_nine_tenths_it_is_refused_unless_forced(kit, tmp_path, monkeypatch, capsys):
    folder, flags = kit
    words = ["export", str(folder / "cat.safetensors"), "--out", str(tmp_path / "out"), *flags]
    words += ["--temperature", "0.02"]  # a gate like a step
    status, said = command(monkeypatch, capsys, *words)
    *_, said = said.splitlines()
    assert (
        status == 2
        and "below 0.9" in said
        and "--for lora" in said
        and not (tmp_path / "out").exists()
    )
    assert run([*words, "--force"]) == 0
    about = header(tmp_path / "out" / "cat_lora.safetensors")
    assert float(about["perfbench.gate_r2"]) < 0.9 and about["perfbench.captions"] == "captions.txt"


def test_fewer_ranks_are_worse(kit, tmp_path):
    folder, flags = kit
    off = []
    for rank in (1, 2):
        words = ["export", str(folder / "cat.safetensors"), "--force", *flags]
        assert run([*words, "--rank", str(rank), "--out", str(tmp_path / str(rank))]) == 0
        about = header(tmp_path / str(rank) / "cat_lora.safetensors")
        assert about["ss_network_dim"] == str(rank)
        off.append(float(about["perfbench.error_prompt_v"]))
    assert off[0] > off[1]


def test_fit_for_lora_exports_without_loss(kit, tmp_path):
    _, flags = kit
    words = ["--concept", str(shared() / "concepts" / "cat"), "--steps", "2", "--set", "batch=2"]
    out = tmp_path / "cat.safetensors"
    place = ["--backbone", str(shared() / "tiny"), *CPU]
    assert run(["fit", "perfusion", *words, "--for", "lora", "--out", str(out), *place]) == 0
    assert header(out)["gate"] == "linear"
    assert run(["export", str(out), "--out", str(tmp_path / "out"), *flags]) == 0
    about = header(tmp_path / "out" / "cat_lora.safetensors")
    assert float(about["perfbench.gate_r2"]) == 1 and about["ss_network_dim"] == "1"


def test_a_training_without_it_keeps_its_key():
    """The later field of the recipe is in no key where it is not used."""
    from benchmarks.planning.config import resolve
    from benchmarks.planning.methods import resolve_methods

    [_, usual] = resolve_methods(resolve(flags={"methods": "perfusion"}), miniature=True)
    changed = resolve(flags={"methods": "perfusion"}, sets=["fit.perfusion.gate=linear"])
    assert "gate" not in usual.config
    assert resolve_methods(changed, miniature=True)[1].config["gate"] == "linear"


def test_the_lora_baseline_gets_kohyas_keys(tiny_backbone, tmp_path):
    fitted = quick_fit("lora", tiny_backbone, tmp_path / "toy-lora")
    place = ["--backbone", str(tiny_backbone.place), *CPU]
    assert run(["export", str(fitted.folder), "--out", str(tmp_path / "out"), *place]) == 0
    made = load_file(tmp_path / "out" / "toy_lora.safetensors")
    about = header(tmp_path / "out" / "toy_lora.safetensors")
    assert about["perfbench.backbone"] == f"{tiny_backbone.name} {tiny_backbone.digest}"
    assert not {"perfbench.untuned", "perfbench.concepts"} & {*about}
    (fitted.folder / "fit.json").write_text('{"untuned": true}')  # as `perfbench fit` leaves it
    assert run(["export", str(fitted.folder), "--out", str(tmp_path / "guess"), *place]) == 0
    told = header(tmp_path / "guess" / "toy_lora.safetensors")
    assert told["perfbench.untuned"] == "toy"
    original = load_file(fitted.folder / FILE)
    theirs = convert_state_dict_to_kohya(convert_all_state_dict_to_peft(original))
    theirs = {key.replace("lora_unet_unet_", "lora_unet_"): one for key, one in theirs.items()}
    assert made.keys() == theirs.keys()
    assert all(torch.equal(made[key], theirs[key].to(made[key])) for key in made)
    pictures = []
    for folder, name in ((fitted.folder, FILE), (tmp_path / "out", "toy_lora.safetensors")):
        pipe = stock_pipe(tiny_backbone)
        pipe.load_lora_weights(folder, weight_name=name)
        pictures.append(stock_draw(pipe, tiny_backbone, "A sks toy on the beach"))
    assert apart(*pictures) == 0


def test_compare_leaves_a_sheet_and_a_table(kit, tmp_path):
    folder, flags = kit
    out = tmp_path / "out"
    words = ["export", str(folder / "cat.safetensors"), "--compare", "--steps", "2", "--force"]
    suite = ["--suite", str(shared() / "concepts")]
    assert run([*words, "--out", str(out), *suite, *flags]) == 0
    lines = (out / "compare.csv").read_text().splitlines()
    assert lines[0].split(",")[:3] == ["pictures", "image cat", "text / plain"]
    assert [line.split(",")[0] for line in lines[1:]] == [
        "the plain word",
        "the concept",
        "the export",
        "other seeds",
    ]
    assert lines[2].split(",")[3] == "0.00" and float(lines[3].split(",")[3]) > 0
    assert Image.open(out / "compare.png").width > 900


# ---- mistakes ----


def test_mistakes_are_one_sentence(kit, tmp_path, monkeypatch, capsys):
    folder, flags = kit
    cat, out = folder / "cat.safetensors", tmp_path / "out"
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    save_file({"lora_unet_a.alpha": torch.zeros(())}, tmp_path / "kohya.safetensors")
    half = {"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight"}
    save_file({name: torch.zeros(4, 32) for name in half}, tmp_path / "half.safetensors")
    save_file({"unet.a.lora_A.weight": torch.zeros(4, 32)}, tmp_path / "layer.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(cat.read_bytes()[:300])
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.txt").write_text("a house on the road\n" * 60)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "cat_emb.safetensors").write_bytes(b"mine")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "cat_lora.safetensors").write_bytes(cat.read_bytes())
    for words, says in (
        ([cat, "--lock", "global"], "--lock global cannot be exported"),
        ([cat, "--lock", "globl"], "did you mean 'global'"),
        ([cat, "--rank", "3"], "has rank 2, and more changes nothing"),
        ([cat, "--rank", "0"], "out of range"),
        ([cat, "--bias", "high"], "neither a number"),
        ([cat, "--bias", "99"], "turns every concept off"),
        ([cat, "--bias", "dog=0.5"], "unknown concept in bias 'dog'"),
        ([cat, "--temperature", "0"], "is not a number above 0"),
        ([cat, cat], "two concepts are called 'cat'"),
        ([cat, f"Cat={cat}"], "differ in capitals only"),
        ([f"a b={cat}"], "give it one of letters"),
        ([f"../x={cat}"], "give it one of letters"),
        ([tmp_path / "nowhere.safetensors"], "there is no concept file"),
        ([tmp_path / "cut.safetensors"], "truncated"),
        ([tmp_path / "empty"], "holds neither"),
        ([tmp_path / "other.safetensors"], "neither a concept nor a LoRA"),
        ([tmp_path / "kohya.safetensors"], "has kohya's keys already"),
        ([tmp_path / "half.safetensors"], "one half is missing"),
        ([tmp_path / "layer.safetensors"], "was made for another model"),
        ([tmp_path / "half.safetensors", "--rank", "1"], "whose keys alone are changed"),
        ([cat, tmp_path / "half.safetensors"], "export it by itself"),
        ([SHIPPED / "cat.safetensors"], "was made for another model"),
        ([cat, "--captions", tmp_path / "none.txt"], "0 of 60 captions have 'cat'"),
        ([cat, "--captions", tmp_path / "nowhere.txt"], "neither a file nor a data set"),
        ([cat, "--out", taken], "is there already"),
        ([mine / "cat_lora.safetensors", "--out", mine], "never written over"),
        ([mine / "cat_lora.safetensors", "--out", mine, "--overwrite"], "never written over"),
        ([cat, "--out", cat], "a folder is wanted"),
    ):
        said = refused(monkeypatch, capsys, "export", "--out", out, *flags, *words)
        assert says in said, (words, said)
    assert not out.exists() and (taken / "cat_emb.safetensors").read_bytes() == b"mine"
    assert (mine / "cat_lora.safetensors").read_bytes() == cat.read_bytes()


def test_fit_for_what_it_does_not_know(monkeypatch, capsys, tmp_path):
    words = ["--concept", "cat", "--out", tmp_path / "x", "--for"]
    assert "trains nothing" in refused(monkeypatch, capsys, "fit", "ti", *words, "lora")
    assert "unknown purpose" in refused(monkeypatch, capsys, "fit", "perfusion", *words, "lorra")
    words = ["--concept", "cat", "--out", tmp_path / "x.safetensors", "--set", "gate=linar"]
    assert "did you mean 'linear'" in refused(monkeypatch, capsys, "fit", "perfusion", *words)


# ---- kohya's own loader ----


@pytest.mark.slow
def test_kohyas_loader_takes_every_key(miniature, cat, monkeypatch):
    """PERFBENCH_SD_SCRIPTS names a clone of kohya-ss/sd-scripts."""
    scripts = os.environ.get("PERFBENCH_SD_SCRIPTS", "")
    if not Path(scripts, "networks", "lora.py").is_file():
        pytest.skip("PERFBENCH_SD_SCRIPTS names no clone of kohya-ss/sd-scripts")
    monkeypatch.syspath_prepend(scripts)
    for name, function in (("cv2", "resize"), ("einops", "rearrange")):
        if importlib.util.find_spec(name) is None:  # of its data sets and of SDXL alone
            module = types.ModuleType(name)
            setattr(module, function, None)
            monkeypatch.setitem(sys.modules, name, module)
    from networks.lora import create_network_from_weights

    pipe = stock_pipe(miniature)
    network, weights = create_network_from_weights(
        1.0, str(cat / "cat_lora.safetensors"), pipe.vae, pipe.text_encoder, pipe.unet
    )
    network.apply_to(pipe.text_encoder, pipe.unet, apply_text_encoder=False, apply_unet=True)
    info = network.load_state_dict(weights, strict=False)
    assert not info.missing_keys and not info.unexpected_keys
    assert len(network.unet_loras) == 2 * 7
    pipe.load_textual_inversion(cat / "cat_emb.safetensors")
    theirs = stock_draw(pipe, miniature, "A <cat> on the beach")
    stock = opened_by_stock(miniature, cat, ["cat"])
    assert apart(theirs, stock_draw(stock, miniature, "A <cat> on the beach")) <= 1
