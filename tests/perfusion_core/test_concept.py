"""The concept file: round trip, size, and what is said about files that are not one."""

import hashlib
import json
import os
import re
from dataclasses import replace

import pytest
import torch
from conftest import make_concept
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from benchmarks.advice import advised
from perfusion_core import load_concepts
from perfusion_core.backbone import cross_attentions
from perfusion_core.concept import Concept, direction, lengthened, shortened, undone, unet_order
from perfusion_core.errors import UserError

# of the file below, in the layout of all that were made before files named their layers
FORMAT_1 = "97a9c21aea19369388af761c25cc0c4080be2489aaf3259ec315ecc2aefcf234"


@pytest.fixture
def concept(tiny_backbone):
    return make_concept(tiny_backbone, steps=210)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_round_trip(concept, dtype, tmp_path):
    concept = replace(concept, o_k=tuple(o + 1 for o in concept.o_v), gate="linear")
    concept.save(tmp_path / "teddy.safetensors", dtype)
    again = Concept.load(tmp_path / "teddy.safetensors")
    for field in ("i_star", "embedding"):
        assert torch.equal(getattr(again, field), getattr(concept, field).to(dtype).float())
    for field in ("o_v", "o_k"):
        assert all(
            torch.equal(a, b.to(dtype).float())
            for a, b in zip(getattr(again, field), getattr(concept, field), strict=True)
        )
    for field in (
        "placeholder",
        "super_category",
        "text_digest",
        "text_shape",
        "backbone",
        "gate",
        "steps",
        "train_bias",
        "names",
    ):
        assert getattr(again, field) == getattr(concept, field)


def test_the_header_can_be_read_without_us(concept, tmp_path):
    concept.save(tmp_path / "c.safetensors")
    with safe_open(tmp_path / "c.safetensors", "pt") as file:
        header = file.metadata()
    assert (header["super_category"], header["steps"]) == ("toy", "210")
    assert header["format"] == "perfusion-concept"


def test_the_direction_of_a_super_encoding_survives_eight_bits():
    rng = torch.Generator().manual_seed(0)
    encoding = torch.randn(768, generator=rng)
    encoding[133] = 28.0  # CLIP's outputs have such
    kept = undone(direction(encoding))
    assert torch.cosine_similarity(kept, encoding, dim=0) > 0.999
    assert torch.equal(direction(kept), direction(encoding))
    other = torch.randn(768, generator=rng)
    right = float(torch.cosine_similarity(encoding, other, dim=0))
    assert float(torch.cosine_similarity(kept, other, dim=0)) == pytest.approx(right, abs=0.01)


def test_saved_again_it_is_the_same_file(concept, tmp_path):
    concept.save(tmp_path / "a.safetensors")
    Concept.load(tmp_path / "a.safetensors").save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_file_of_format_1_keeps_its_bytes(tmp_path):
    """Such files are in runs and in people's hands, and are known by their sha256."""
    numbers = torch.arange(-48, 48) / 64  # exact in half precision
    concept = Concept(
        placeholder="teddy",
        super_category="toy",
        i_star=numbers[:32],
        embedding=numbers[32:64],
        o_v=numbers[64:].split((8, 24)),
        o_k=None,
        super_encoding=numbers[:32],
        text_digest="0123456789abcdef",
        text_shape="404x32x2:last_hidden_state",
        backbone="tiny 0123456789abcdef",
        steps=210,
    )
    assert concept.header()["version"] == "1"
    concept.save(tmp_path / "old.safetensors")
    old = (tmp_path / "old.safetensors").read_bytes()
    assert hashlib.sha256(old).hexdigest() == FORMAT_1
    again = Concept.load(tmp_path / "old.safetensors")
    assert again.names == ()
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == old


def test_names_decide_where_layers_stand_in_another_order(concept, tiny_backbone, tmp_path):
    concept.save(tmp_path / "c.safetensors")
    with safe_open(tmp_path / "c.safetensors", "pt") as file:
        header = file.metadata()
    assert header["version"] == "2" and header["layer_names"].split()[-1] == "mid.0.0"
    layers = list(cross_attentions(tiny_backbone.unet))
    assert Concept.load(tmp_path / "c.safetensors").names == tuple(layers)
    assert sorted(set(layers), key=unet_order) == layers  # what format 1 counts on
    turned = replace(concept, names=tuple(layers[::-1]), o_v=concept.o_v[::-1])
    o_k = tuple(o + 1 for o in turned.o_v)
    back = replace(turned, o_k=o_k).arranged(layers)
    assert back.names == tuple(layers)
    for a, b, c in zip(back.o_v, back.o_k or (), concept.o_v, strict=True):
        assert torch.equal(a, c) and torch.equal(b, c + 1)
    others = replace(concept, names=tuple(f"{name}.x" for name in layers))
    assert others.arranged(layers) is others
    refused = pytest.raises(UserError, match="made for another model")
    with refused, load_concepts(tiny_backbone.pipe, {"teddy": others}):
        pass


def test_the_layers_of_stable_diffusion_take_few_bytes():
    names = list(stable_diffusion_sizes())
    assert sorted(set(names), key=unet_order) == names
    assert [lengthened(shortened(name)) for name in names] == names
    assert len(" ".join(map(shortened, names))) < 200
    for odd in ("down.attn2", "mid_block.attn2", "transformer_blocks.3.attn2"):
        assert lengthened(shortened(odd)) == odd


def test_on_the_disk_before_it_has_its_name(concept, tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, name=name, real=real: (done.append(name), real(*args))[1]
        )
    concept.save(tmp_path / "c.safetensors")
    assert done == ["fsync", "replace"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path):
    save_file({"lora": torch.zeros(3)}, path)


def incomplete(path):
    with safe_open(path, "pt") as file:
        header = dict(file.metadata())
    save_file(
        {name: t for name, t in load_file(path).items() if name != "i_star"}, path, metadata=header
    )


def changed(header=(), **tensors):
    """A file whose tensors are the right ones but for these, by functions of the right ones."""

    def write(path):
        with safe_open(path, "pt") as file:
            right = dict(file.metadata())
        stored = load_file(path)
        save_file(
            stored | {name: change(stored[name]).contiguous() for name, change in tensors.items()},
            path,
            metadata=right | dict(header),
        )

    return write


def pickled(path):
    torch.save({"i_star": torch.zeros(3)}, path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "truncated"),
        (
            foreign,
            "^\\S+ is a safetensors file but not a concept; concepts are made by `perfbench fit "
            "perfusion`$",
        ),
        (
            changed({"version": "5"}),
            r"^\S+ was written by a newer version \(format 5, this one reads up to 4\); "
            r"update to that version$",
        ),
        (changed({"gate": "tanh"}), "its gate is 'tanh', not one of sigmoid, linear"),
        (changed({"version": "x"}), "damaged"),
        (changed({"text_shape": "404"}), "damaged: text_shape '404' is not like 49408x768x12:"),
        (changed(i_star=lambda t: t * torch.nan), "i_star holds something else than finite"),
        (changed(o_v=lambda t: t * torch.inf), "o_v holds something else than finite"),
        (changed(o_v=lambda t: t.int()), "o_v holds something else than finite real"),
        (
            changed(embedding=lambda t: t[:16]),
            r"embedding has the shape \[16\], the header says \[32\]",
        ),
        (changed(o_v=lambda t: t[:, None].expand(-1, 2)), "o_v has the shape"),
        (incomplete, "damaged.*i_star"),
        (changed({"layers": "3 4"}), "damaged"),
        (changed({"layer_names": "down.0.0.0"}), "damaged: layer_names has 1 names for"),
        (changed({"layer_names": ""}), "damaged: layer_names has 0 names for"),
        (pickled, "not a concept file"),
        (lambda path: path.unlink(), "no concept file"),
        (lambda path: path.write_bytes(b""), "truncated"),
    ],
)
def test_damaged_files_in_one_sentence(concept, tmp_path, damage, says):
    path = tmp_path / "teddy.safetensors"
    concept.save(path)
    damage(path)
    with pytest.raises(UserError) as caught:
        Concept.load(path)
    assert re.search(says, advised(caught.value)) and "\n" not in advised(caught.value)


def stable_diffusion_sizes() -> dict[str, int]:
    """The V outputs of SD 1.5's sixteen cross-attentions by name, from the true configuration on
    the meta device.
    """
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    return {name: layer.to_v.out_features for name, layer in cross_attentions(unet).items()}


def test_size_on_stable_diffusion(concept, tmp_path):
    names, sizes = zip(*stable_diffusion_sizes().items())
    assert (len(sizes), sum(sizes)) == (16, 12_480)
    big = replace(
        concept,
        i_star=torch.randn(768),
        embedding=torch.randn(768),
        super_encoding=torch.randn(768),
        o_v=tuple(torch.randn(size) for size in sizes),
        names=names,
        text_shape="49408x768x12:last_hidden_state",
        backbone="stable-diffusion-v1-5/stable-diffusion-v1-5 0123456789abcdef",
        placeholder="tortoise plushy",
    )
    for dtype, most in ((torch.float32, 60_000), (torch.float16, 30_000)):
        big.save(tmp_path / "c.safetensors", dtype)
        assert (tmp_path / "c.safetensors").stat().st_size <= most


def test_no_tensor_but_the_concepts_own(concept, tmp_path):
    """C and C^-1 in every file is how public versions came to megabytes."""
    concept.save(tmp_path / "c.safetensors")
    length = int.from_bytes((tmp_path / "c.safetensors").read_bytes()[:8], "little")
    header = json.loads((tmp_path / "c.safetensors").read_bytes()[8 : 8 + length])
    assert set(header) == {"__metadata__", "i_star", "embedding", "o_v", "super_encoding"}
