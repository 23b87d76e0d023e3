"""Concepts in ComfyUI's own code: its U-Net says of noise what `load_concepts` says in diffusers.

PERFBENCH_COMFYUI names a folder with ComfyUI's sources (github.com/comfyanonymous/ComfyUI), whose
requirements can be imported by this Python. 0.8.0 was run; a U-Net of its recognised kind with few
layers, the true text encoder, random weights.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import make_concept
from safetensors.torch import load_file, save_file
from sd_kit import TRUE, pipe_of, save_single_file, tiny_layouts
from torch import nn

import perfusion_core
from perfusion_core import load_concepts
from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.covariance import FILE, estimate, inverse, read_covariance
from perfusion_core.prompts import Word, encode, super_encoding
from perfusion_core.rank_one import gated_edit

SOURCES = os.environ.get("PERFBENCH_COMFYUI", "")
WIDTH = int(os.environ.get("PERFBENCH_COMFYUI_WIDTH", "768"))  # 1024: Stable Diffusion 2.x
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (Path(SOURCES) / "comfy").is_dir(),
        reason="PERFBENCH_COMFYUI names no folder with ComfyUI's sources",
    ),
]
HERE = Path(__file__).parent
NEGATIVE = "blurry, a low quality photo"
ONE = r"A {teddy} on the beach, under a \(blue\) sky"  # as ComfyUI writes parentheses
TWO = "A {teddy} beside a {kettle}, in the snow"
CFG = 3.0
TEDDY = {"concept": "teddy.safetensors"}
POT = {"concept": "pot.safetensors", "name": "kettle", "bias": 0.5, "temperature": 0.2}
LORA = {"lora_name": "lora.safetensors", "strength_model": 0.7}


def both(lock, **more):
    return [TEDDY | {"lock": lock} | more, POT | {"lock": lock}]


CASES = {
    "plain": {"prompt": ONE.replace("{teddy}", "toy")},
    "local": {"nodes": [TEDDY], "prompt": ONE},
    "stock node": {"nodes": [TEDDY], "prompt": ONE, "encoder": "CLIPTextEncode"},
    "global": {"nodes": [TEDDY | {"lock": "global"}], "prompt": ONE},
    "two local": {"nodes": both("local"), "prompt": TWO},
    "two global": {"nodes": both("global"), "prompt": TWO},
    "a lock each": {"nodes": [TEDDY, POT | {"lock": "global"}], "prompt": TWO},
    "keys learned": {"nodes": [{"concept": "keyed.safetensors"}], "prompt": ONE},
    "without a gate": {"nodes": [{"concept": "rome.safetensors"}], "prompt": ONE},
    "no concept in it": {"nodes": both("global"), "prompt": "A toy on the beach"},
    "lora before": {"nodes": [LORA, TEDDY], "prompt": ONE},
    "lora after": {"nodes": [*both("local"), LORA], "prompt": TWO},
    "emphasis": {"nodes": [TEDDY], "prompt": "A ({teddy}:1.3) on the beach"},
    "plain again": {"prompt": ONE.replace("{teddy}", "toy")},
}
REFUSED = {
    "misspelt": ({"nodes": [TEDDY], "prompt": "a {tedy}"}, "unknown concept in the prompt 'tedy'"),
    "glued": ({"nodes": [TEDDY], "prompt": "a {teddy}bear"}, "has to stand as a word of its own"),
    "none": ({"prompt": "a {teddy}"}, "{teddy} is a concept, and this CLIP has none"),
    "twice": ({"nodes": [TEDDY, TEDDY], "prompt": "a {teddy}"}, "two concepts have the name"),
    "absent": ({"nodes": [{"concept": "no.safetensors"}], "prompt": "a"}, "there is no concept"),
    "another kind": (
        {"nodes": [{"concept": "tiny.safetensors"}], "prompt": "a"},
        "was made for another kind of model",
    ),
    "another order": (
        {"nodes": [{"concept": "odd.safetensors"}], "prompt": "a"},
        "was made for another model",
    ),
    "a stranger": (
        {"nodes": [{"concept": "stranger.safetensors"}], "prompt": "a"},
        "fit it again, or switch on force",
    ),
    "no temperature": (
        {"nodes": [TEDDY | {"temperature": 0.0}], "prompt": "a"},
        "the temperature above 0",
    ),
    "skipped": (
        {"nodes": [TEDDY], "prompt": "a {teddy}", "skip": -3},
        "CLIP Set Last Layer reads another output",
    ),
    "crossed": ({"nodes": [TEDDY], "prompt": "a", "crossed": True}, "have different concepts"),
    "no C": (
        {"nodes": [{"concept": "alone.safetensors", "force": True}], "prompt": "a"},
        "there is no covariance",
    ),
}


def few_layers():
    """A layout that ComfyUI takes for Stable Diffusion: its widths, two levels of one layer."""
    layout = json.loads(json.dumps(TRUE()[WIDTH]))
    heads = {768: 8, 1024: [5, 10]}[WIDTH]
    layout["unet"] |= {
        "block_out_channels": [320, 640],
        "layers_per_block": 1,
        "attention_head_dim": heads,
        "down_block_types": ["CrossAttnDownBlock2D"] * 2,
        "up_block_types": ["CrossAttnUpBlock2D"] * 2,
    }
    layout["vae"] = next(iter(tiny_layouts().values()))["vae"]  # not read here
    return layout


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    place = tmp_path_factory.mktemp("sd") / "sd-random"
    place.mkdir()
    pipe = pipe_of(few_layers())
    for model in (pipe.unet, pipe.text_encoder):
        model.requires_grad_(False)
    text = "a cat teapot chair stands garden sea red old photo of the in by with blue snow"
    words = text.split()
    order = torch.Generator().manual_seed(1)
    texts = [
        " ".join(words[n] for n in torch.randint(len(words), (90,), generator=order))
        for _ in range(24)
    ]
    backbone = Backbone("sd-random", place, None, pipe, torch.device("cpu"), torch.float32)
    estimate(backbone, texts, place / FILE, source="words", batch=8)
    return backbone


@pytest.fixture(scope="module")
def concepts(sd):
    teddy, pot = make_concept(sd, "teddy", "toy"), make_concept(sd, "pot", "pot", seed=1)
    turned = tuple(reversed(teddy.names))
    return {
        # as a file whose layers stand in another order: names decide
        "teddy": replace(teddy, names=turned, o_v=teddy.o_v[::-1]),
        "pot": replace(pot, names=()),  # a file of format 1
        "keyed": replace(teddy, o_k=tuple(o * 0.5 for o in pot.o_v)),
        "rome": replace(teddy, gate="linear"),
        "odd": replace(teddy, names=tuple(name.replace("up", "ap") for name in teddy.names)),
        "tiny": replace(teddy, text_shape=f"49408x{WIDTH}x3:last_hidden_state"),
        "stranger": replace(teddy, text_digest="0" * 16, super_encoding=-teddy.super_encoding),
        "alone": replace(teddy, text_digest="0" * 16),
    }


def a_lora(pipe):
    """In the names that all programs read, on every projection of the text."""
    rng = torch.Generator().manual_seed(3)
    tensors = {}
    for name, layer in cross_attentions(pipe.unet).items():
        for side in ("to_q", "to_k", "to_v"):
            weight = getattr(layer, side).weight
            start = f"lora_unet_{name}_{side}".replace(".", "_")
            tensors[f"{start}.lora_down.weight"] = torch.randn(2, weight.shape[1], generator=rng)
            up = torch.randn(weight.shape[0], 2, generator=rng) * 0.02
            tensors[f"{start}.lora_up.weight"] = up
            tensors[f"{start}.alpha"] = torch.tensor(2.0)
    return tensors


@pytest.fixture(scope="module")
def comfy(sd, concepts, tmp_path_factory):
    """-> predictions by case, and what its process told."""
    work = tmp_path_factory.mktemp("comfyui")
    for name in ("checkpoints", "perfusion/sd", "loras"):
        (work / "models" / name).mkdir(parents=True)
    (work / "custom_nodes").mkdir()
    pack = Path(perfusion_core.__file__).parent / "comfyui"
    (work / "custom_nodes" / "perfusion").symlink_to(pack)
    save_single_file(sd.pipe, work / "models" / "checkpoints" / "sd.safetensors")
    for name, concept in concepts.items():
        concept.save(work / "models" / "perfusion" / f"{name}.safetensors", torch.float32)
    os.link(sd.place / FILE, work / "models" / "perfusion" / "sd" / FILE)
    save_file(a_lora(sd.pipe), work / "models" / "loras" / "lora.safetensors")
    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    save_file({"noise": noise}, work / "noise.safetensors")
    cases = {name: {"negative": NEGATIVE, "cfg": CFG} | case for name, case in CASES.items()}
    refused = {name: case for name, (case, _) in REFUSED.items()}
    (work / "cases.json").write_text(json.dumps({"cases": cases, "refused": refused}))
    told = subprocess.run(
        [sys.executable, HERE / "comfy_side.py", SOURCES, work],
        capture_output=True,
        text=True,
        cwd=work,
    )
    last = told.stderr.strip().rpartition("\n")[2]
    if told.returncode and last.startswith("ModuleNotFoundError") and "perfusion" not in last:
        pytest.skip(f"ComfyUI's own requirements are not here: {last}")
    assert told.returncode == 0, told.stderr[-4000:]
    return load_file(work / "results.safetensors"), json.loads((work / "about.json").read_text())


def guided(pipe, found, encodings):
    """eps of [negative, prompt] with guidance, for the noise that ComfyUI's sampler gave."""
    x = found.repeat(2, 1, 1, 1)
    rows = encodings.repeat_interleave(len(found), 0)
    with torch.no_grad():
        against, towards = pipe.unet(x, 500, rows).sample.chunk(2)
    return against + CFG * (towards - against)


def by_load_concepts(sd, concepts, case, x, embeds=None):
    """The same nodes in diffusers."""
    pipe, loaded, numbers = sd.pipe, {}, {}
    for one in case.get("nodes", []):
        if "lora_name" not in one:
            concept = concepts[one["concept"].removesuffix(".safetensors")]
            name = one.get("name", concept.placeholder)
            loaded[name] = concept
            numbers[name] = (one.get("bias", 0.6), one.get("temperature", 0.15), one.get("lock"))
    bias, temperature = ({n: v[i] for n, v in numbers.items()} for i in (0, 1))
    lock = "global" if any(v[2] == "global" for v in numbers.values()) else "local"
    with load_concepts(pipe, loaded, lock, bias, temperature, c_inv=sd.c_inv), torch.no_grad():
        given = {"prompt_embeds": embeds} if embeds is not None else {}
        prompt = None if given else case["prompt"].replace("\\", "")
        pair = pipe.encode_prompt(prompt, "cpu", 1, True, negative_prompt=NEGATIVE, **given)
        return guided(pipe, x, torch.cat([pair[1], pair[0]]))


def of_the_change(sd, concepts, comfy, name, right):
    """ComfyUI's distance from diffusers, in parts of what the concepts change."""
    found = comfy[0]
    case, x = CASES[name], found[f"{name}.x"]
    supers = case["prompt"].replace("{teddy}", "toy").replace("{kettle}", "pot")
    without = by_load_concepts(sd, {}, {"prompt": supers}, x)
    change = (right - without).norm()
    assert change > 0.01 * without.norm()
    return float((found[f"{name}.eps"] - right).norm() / change)


@pytest.mark.parametrize(
    "name",
    [
        "local",
        "stock node",
        "global",
        "two local",
        "two global",
        "keys learned",
        "without a gate",
        "no concept in it",
    ],
)
def test_as_load_concepts(sd, concepts, comfy, name):
    right = by_load_concepts(sd, concepts, CASES[name], comfy[0][f"{name}.x"])
    assert of_the_change(sd, concepts, comfy, name, right) < 1e-4


@pytest.mark.parametrize("name", ["lora before", "lora after"])
def test_a_lora_beside(sd, concepts, comfy, name):
    lora = a_lora(sd.pipe)
    kept = {}
    for layer_name, layer in cross_attentions(sd.pipe.unet).items():
        for side in ("to_q", "to_k", "to_v"):
            weight = getattr(layer, side).weight
            kept[weight] = weight.clone()
            start = f"lora_unet_{layer_name}_{side}".replace(".", "_")
            up, down = (lora[f"{start}.lora_{part}.weight"] for part in ("up", "down"))
            weight += LORA["strength_model"] * up @ down
    try:
        right = by_load_concepts(sd, concepts, CASES[name], comfy[0][f"{name}.x"])
        assert of_the_change(sd, concepts, comfy, name, right) < 1e-4
    finally:
        for weight, before in kept.items():
            weight.copy_(before)
    unfused = by_load_concepts(sd, concepts, CASES[name], comfy[0][f"{name}.x"])
    assert of_the_change(sd, concepts, comfy, name, unfused) > 1e-2


def test_a_lock_each(sd, concepts, comfy):
    """Keys: of the prompt with the kettle's plain word, edited by teddy alone; values: of both."""
    pipe, case = sd.pipe, CASES["a lock each"]
    teddy, pot = (concepts[name].arranged(cross_attentions(pipe.unet)) for name in ("teddy", "pot"))
    written = {"teddy": Word("toy", teddy.embedding), "kettle": Word("pot", pot.embedding)}
    texts = [NEGATIVE, case["prompt"]]
    c_inv, _ = inverse(read_covariance(sd.place / FILE).matrix)
    with torch.no_grad():
        values, _ = encode(pipe.text_encoder, pipe.tokenizer, texts, written)
        of_keys = written | {"kettle": Word("pot")}
        keys, _ = encode(pipe.text_encoder, pipe.tokenizer, texts, of_keys)
    i_stars = torch.stack([teddy.i_star, pot.i_star])
    bias, temperature = torch.tensor([0.6, 0.5]), torch.tensor([0.15, 0.2])
    e_super = super_encoding(pipe.text_encoder, pipe.tokenizer, "toy")[None]

    class Side(nn.Module):
        def __init__(self, compute):
            super().__init__()
            self.compute = compute

        def forward(self, joined):
            return self.compute(*joined.split(joined.shape[-1] // 2, -1))

    layers = cross_attentions(pipe.unet)
    plain = {name: (layer.to_k, layer.to_v) for name, layer in layers.items()}
    for n, layer in enumerate(layers.values()):
        w_k, w_v = layer.to_k.weight, layer.to_v.weight
        o_v = torch.stack([teddy.o_v[n], pot.o_v[n]])

        def of_k(_, e, w=w_k):
            return gated_edit(e, w, i_stars[:1], e_super @ w.T, c_inv, 0.6, 0.15)

        def of_v(e, _, w=w_v, o=o_v):
            return gated_edit(e, w, i_stars, o, c_inv, bias, temperature)

        layer.to_k, layer.to_v = Side(of_k), Side(of_v)
    try:
        right = guided(pipe, comfy[0]["a lock each.x"], torch.cat([values, keys], -1))
    finally:
        for name, layer in layers.items():
            layer.to_k, layer.to_v = plain[name]
    assert of_the_change(sd, concepts, comfy, "a lock each", right) < 1e-4


def test_emphasis_is_comfyuis_own(sd, concepts, comfy):
    """Its rule: the word's encoding goes away from the empty prompt's."""
    pipe, name = sd.pipe, "emphasis"
    words = {"teddy": Word("toy", concepts["teddy"].embedding)}
    with torch.no_grad():
        (e,), (at,) = encode(pipe.text_encoder, pipe.tokenizer, ["A {teddy} on the beach"], words)
        (empty,), _ = encode(pipe.text_encoder, pipe.tokenizer, [""], {})
    m = at["teddy"][0]
    e[m] = (e[m] - empty[m]) * 1.3 + empty[m]
    right = by_load_concepts(sd, concepts, CASES[name], comfy[0][f"{name}.x"], embeds=e[None])
    found = comfy[0][f"{name}.eps"]
    other = by_load_concepts(sd, concepts, {**CASES[name], "prompt": "A {teddy} on the beach"},
                             comfy[0][f"{name}.x"])  # fmt: skip
    assert (found - right).norm() < 1e-3 * (right - other).norm()


def test_without_concepts_nothing_changes(sd, concepts, comfy):
    found = comfy[0]
    assert torch.equal(found["plain.eps"], found["plain again.eps"])
    right = by_load_concepts(sd, concepts, CASES["plain"], found["plain.x"])
    assert (found["plain.eps"] - right).norm() < 1e-5 * right.norm()


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_in_one_sentence(comfy, name):
    said = comfy[1]["said"][name]
    assert said.startswith("UserError: ") and REFUSED[name][1] in said and "\n" not in said


def test_the_node_offers_concepts_and_needs_no_diffusers(concepts, comfy):
    assert sorted(comfy[1]["files"]) == sorted(f"{name}.safetensors" for name in concepts)
    assert comfy[1]["heavy"] == []
