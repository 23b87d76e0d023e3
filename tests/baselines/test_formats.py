"""Every baseline's file opens in stock diffusers and draws what ours draws; how large the files are
on SD 1.5.
"""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from baselines_kit import apart, module, ours, quick_fit, stock_draw, stock_pipe
from conftest import make_tokenizer
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from baselines import (
    custom_diffusion_student,
    dreambooth,
    lora,
    peft_adapters,
    peft_files,
    pivotal,
    textual_inversion,
    xti,
)
from benchmarks.planning import methods
from benchmarks.planning.method_text import said_of
from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.files import to_bytes

BASE = "A toy on the beach"
PAGE = Path(__file__).parent.parent.parent / "docs" / "baselines.md"


@pytest.fixture(scope="module")
def fit_of(tiny_backbone, tmp_path_factory):
    """-> the fit of a method, made once."""
    made = {}

    def get(method):
        if method not in made:
            made[method] = quick_fit(method, tiny_backbone, tmp_path_factory.mktemp(method))
        return made[method]

    return get


def agree(method, fitted, backbone, pipe, text):
    """Stock diffusers with the file draws what ours draws, and not what the base draws."""
    theirs = stock_draw(pipe, backbone, text)
    assert apart(ours(method, backbone, {"teddy": fitted}, "A {teddy} on the beach"), theirs) <= 1
    assert apart(stock_draw(stock_pipe(backbone), backbone, BASE), theirs) > 10


def test_ti_opens_with_load_textual_inversion(tiny_backbone, fit_of):
    pipe = stock_pipe(tiny_backbone)
    pipe.load_textual_inversion(fit_of("ti").folder / textual_inversion.FILE)
    agree("ti", fit_of("ti"), tiny_backbone, pipe, "A <teddy> on the beach")


def test_lora_opens_with_load_lora_weights(tiny_backbone, fit_of):
    pipe = stock_pipe(tiny_backbone)
    pipe.load_lora_weights(fit_of("lora").folder)
    agree("lora", fit_of("lora"), tiny_backbone, pipe, "A sks toy on the beach")


def test_pivotal_opens_with_load_lora_weights_and_load_textual_inversion(tiny_backbone, fit_of):
    folder, pipe = fit_of("pivotal").folder, stock_pipe(tiny_backbone)
    pipe.load_lora_weights(folder, weight_name="teddy_lora.safetensors")
    pipe.load_textual_inversion(folder / "teddy_emb.safetensors")
    agree("pivotal", fit_of("pivotal"), tiny_backbone, pipe, "A <teddy> toy on the beach")


def test_db_opens_with_from_pretrained(tiny_backbone, fit_of):
    pipe = stock_pipe(tiny_backbone)
    pipe.unet = UNet2DConditionModel.from_pretrained(fit_of("db").folder / dreambooth.FOLDER)
    agree("db", fit_of("db"), tiny_backbone, pipe, "A sks toy on the beach")


def test_cd_opens_with_load_attn_procs_if_it_is_given_the_pipeline(tiny_backbone, fit_of):
    folder, pipe = fit_of("cd").folder, stock_pipe(tiny_backbone)
    pipe.unet.load_attn_procs(folder, weight_name=custom_diffusion_student.FILE, _pipeline=pipe)
    pipe.load_textual_inversion(folder / f"{custom_diffusion_student.TOKEN}.safetensors")
    tensors, processors = (
        load_file(folder / custom_diffusion_student.FILE),
        pipe.unet.attn_processors,
    )
    for name, layer in cross_attentions(pipe.unet).items():
        for side in "kv":
            loaded = getattr(processors[f"{name}.processor"], f"to_{side}_custom_diffusion").weight
            assert torch.equal(
                loaded, tensors[f"{name}.processor.to_{side}_custom_diffusion.weight"]
            )
            assert not torch.equal(loaded, getattr(layer, f"to_{side}").weight), (
                "K and V have to be changed"
            )
    agree("cd", fit_of("cd"), tiny_backbone, pipe, "A <new1> toy on the beach")


def test_the_plain_call_still_ignores_cd_without_a_word(tiny_backbone, fit_of):
    """diffusers 0.42. The day this fails, diffusers is mended: say so in docs/baselines.md."""
    pipe = stock_pipe(tiny_backbone)
    before, base = dict(pipe.unet.attn_processors), stock_draw(pipe, tiny_backbone, BASE)
    pipe.unet.load_attn_procs(fit_of("cd").folder, weight_name=custom_diffusion_student.FILE)
    assert pipe.unet.attn_processors == before
    assert apart(base, stock_draw(pipe, tiny_backbone, BASE)) == 0


def test_cd_has_the_keys_of_diffusers_own_file(tiny_backbone, fit_of, tmp_path):
    """Saved again by diffusers, which leaves out the empty entries that it needs to read the
    file.
    """
    folder, pipe = fit_of("cd").folder, stock_pipe(tiny_backbone)
    pipe.unet.load_attn_procs(folder, weight_name=custom_diffusion_student.FILE, _pipeline=pipe)
    pipe.unet.save_attn_procs(tmp_path)
    theirs, mine = (
        load_file(tmp_path / custom_diffusion_student.FILE),
        load_file(folder / custom_diffusion_student.FILE),
    )
    assert {name for name, tensor in mine.items() if len(tensor)} == theirs.keys()
    assert all(torch.equal(theirs[name], mine[name]) for name in theirs)


# ---- sizes on Stable Diffusion 1.5 ----


@pytest.fixture(scope="module")
def sd15():
    """SD 1.5's U-Net by its true configuration, without memory but for K and V; a text encoder of
    its width.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    for layer in cross_attentions(unet).values():
        layer.to_k.to_empty(device="cpu")
        layer.to_v.to_empty(device="cpu")
    tokenizer = make_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=768, num_hidden_layers=1, num_attention_heads=12
    )
    pipe = SimpleNamespace(unet=unet, text_encoder=CLIPTextModel(text), tokenizer=tokenizer)
    return Backbone("sd15", Path("."), None, pipe, torch.device("cpu"), torch.float32)


def told(method: str) -> int:
    """The size that the page tells, in kB of 1,000 bytes."""
    row = re.search(rf"^\| `{method}` \|.*\| ([\d,]+) kB \|", PAGE.read_text(), re.M)
    assert row, f"{PAGE.name} tells no size of {method}"
    return int(row[1].replace(",", ""))


def test_it_is_stable_diffusion(sd15):
    assert sum(p.numel() for p in sd15.unet.parameters()) == 859_520_964
    assert sum(layer.to_v.out_features for layer in cross_attentions(sd15.unet).values()) == 12_480


def test_size_of_cd(sd15, tmp_path):
    custom_diffusion_student.Student(sd15).save(tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert round(size / 1000) == told("cd")
    assert 70e6 < size < 100e6  # the paper: nearly 100 MB; Custom Diffusion's own page: 75 MB


def test_size_of_ti(sd15, tmp_path):
    vector = textual_inversion.first_vector(sd15, "toy")
    assert round(len(to_bytes({"<teddy>": vector}, {"format": "pt"})) / 1000) == told("ti")


def lora_of(backbone, folder: Path) -> Path:
    """A file of rank 4, of numbers that nobody chose."""
    with lora.adapted(backbone, 4, seed=0) as matrices:
        assert sum(matrix.numel() for matrix in matrices) == 797_184
        for name, layer in backbone.unet.named_modules():
            if ".lora_" in name and isinstance(layer, torch.nn.Linear):
                layer.to_empty(device="cpu")
        lora.save(backbone.unet, folder)
    return folder / lora.FILE


def test_size_of_lora(sd15, tmp_path):
    assert round(lora_of(sd15, tmp_path).stat().st_size / 1000) == told("lora")


def test_size_of_pivotal(sd15, tmp_path):
    words = torch.stack(pivotal.new_vectors(sd15, pivotal.Config.words, seed=0))
    size = lora_of(sd15, tmp_path).stat().st_size
    size += len(to_bytes({"<teddy>": words}, {"format": "pt"}))
    assert round(size / 1000) == told("pivotal")


@pytest.mark.parametrize("name", ["dora", "loha", "lokr", "oft"])
def test_size_of_peft_adapters(name, sd15, tmp_path):
    this = module(name)
    wanted = this.adapter().config(
        target_modules=list(lora.LAYERS), **this.settings_of(this.Config())
    )
    with peft_adapters.attached(sd15, wanted, seed=0):
        for layer in peft_adapters.adapted_layers(sd15.unet):
            for part in layer.adapter_layer_names:
                if isinstance(matrices := getattr(layer, part), torch.nn.Module):
                    matrices.to_empty(device="cpu")
        peft_files.write_adapter(tmp_path, sd15.unet, wanted, peft_adapters.TRAINING)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert round(size / 1000) == told(name) == this.KILOBYTES


def test_the_lists_tell_the_sizes_of_the_page():
    """Each trained method has one."""
    for name in methods.expanded(["all"]):
        assert said_of(methods.BUILT_IN[name]).kilobytes == told(name), name


def test_size_of_xti(sd15):
    vectors = xti.first_vectors(sd15, "toy")
    about = {"format": "pt", "super_category": "toy"}
    size = len(to_bytes({name: vector[None] for name, vector in vectors.items()}, about))
    assert round(size / 1000) == told("xti")


def test_size_of_perfusion(sd15, tmp_path):
    from perfusion_core.concept import Concept

    sizes = [layer.to_v.out_features for layer in cross_attentions(sd15.unet).values()]
    wide, digest = torch.zeros(768), "0" * 16
    o_v = tuple(torch.zeros(size) for size in sizes)
    Concept(
        "teddy",
        "toy",
        wide,
        wide,
        o_v,
        None,
        wide + 1,
        digest,
        "49408x768x12:last_hidden_state",
        "sd15",
    ).save(tmp_path / "c")
    size = (tmp_path / "c").stat().st_size
    assert round(size / 1000) == told("perfusion")
    assert size <= 100e3  # the paper: 100 KB


def test_size_of_db_by_its_shapes(sd15):
    numbers = sum(tensor.numel() for tensor in sd15.unet.state_dict().values())
    # in MB; the header and config.json are 0.1 MB
    assert round(numbers * 4 / 1e6) == round(told("db") / 1000)


@pytest.mark.slow
def test_size_of_db_on_disk(tmp_path):
    """3.4 GB of memory and of disk."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    unet.to_empty(device="cpu").save_pretrained(tmp_path)
    assert round(sum(path.stat().st_size for path in tmp_path.iterdir()) / 1000) == told("db")
