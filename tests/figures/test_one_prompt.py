"""`perfbench generate`: schedulers, sizes, negative prompts, sheets, sweeps and their page, on the
tiny backbone.
"""

import hashlib
import inspect
import json
import re

import diffusers
import numpy as np
import pytest
import torch
from conftest import make_concept
from PIL import Image
from run_kit import shared

from benchmarks.cli import run
from benchmarks.figures.one_prompt.wanted import settings, size_of
from perfusion_core.backbone import Backbone
from perfusion_core.errors import UserError
from perfusion_core.sampling import Manner, draw, noise, prepared
from perfusion_core.schedulers import DDIM, SCHEDULERS

EVIL = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def backbone():
    return Backbone.open(shared() / "tiny", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def files(backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("concepts")
    for seed, name in enumerate(("cat", "teapot")):
        make_concept(backbone, name, name, seed=seed).save(folder / f"{name}.safetensors")
    make_concept(backbone, "flat", "cat", gate="linear").save(folder / "flat.safetensors")
    return folder


def generate(out, *words, prompt="A cat on the beach"):
    small = ["--backbone", str(shared() / "tiny"), "--device", "cpu", "--dtype", "float32"]
    few = ["--steps", "2", "-n", "2", "--out", str(out)]
    assert run(["generate", prompt, *small, *few, *words]) == 0
    return {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*.png"))}


# ---- schedulers, against a loop of diffusers' own pieces ----


def plain_loop(backbone, name, text, negative, seed, steps, guidance, size=None):
    """float64 where it can be: the stock modules, one picture, no trick of ours."""
    kind, more = SCHEDULERS[name]
    config = backbone.pipe.scheduler.config
    scheduler = getattr(diffusers, kind).from_config(config, **more)
    if name == DDIM:
        scheduler = backbone.scheduler()
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    high, wide = size or (16, 16)
    x = torch.randn((1, 4, high // 2, wide // 2), generator=generator)
    x = x * scheduler.init_noise_sigma
    texts = backbone.encode([negative, text])
    takes = inspect.signature(scheduler.step).parameters
    more = {"generator": [generator]} if "generator" in takes else {}
    with torch.no_grad():
        for t in scheduler.timesteps:
            seen = scheduler.scale_model_input(x, t)
            away, to = (
                backbone.unet(seen, t, encoder_hidden_states=one[None]).sample for one in texts
            )
            x = scheduler.step(away + guidance * (to - away), t, x, **more).prev_sample
        pixels = backbone.vae.decode(x / backbone.vae.config.scaling_factor).sample
    return (pixels[0].permute(1, 2, 0).numpy() / 2 + 0.5).clip(0, 1) * 255


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_draws_as_diffusers_would(backbone, name):
    """Beside another picture, with a negative prompt, in another shape."""
    asked = (["A cat on the beach"] * 2, [4, 3], 3.0, "snow")
    pictures = prepared(backbone, *asked)
    size = (24, 16)
    drawn = draw(backbone, pictures, steps=4, guidance=3.0, how=Manner(name, size))
    assert drawn.shape == (2, 24, 16, 3)
    real = plain_loop(backbone, name, "A cat on the beach", "snow", 3, 4, 3.0, size)
    assert np.abs(drawn[1] - real).max() < 1.01  # a rounding to whole numbers


def test_what_is_usual_is_drawn_as_before(backbone):
    pictures = prepared(backbone, ["A cat"] * 2, [0, 1], 6.0)
    usual = draw(backbone, pictures, steps=3, guidance=6.0)
    named = draw(backbone, pictures, steps=3, guidance=6.0, how=Manner(DDIM, (16, 16)))
    assert usual.tobytes() == named.tobytes()
    assert noise(backbone, [5]).shape == (1, 4, 8, 8)
    assert torch.equal(
        noise(backbone, [5])[0], torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(5))
    )


# ---- the command ----


def test_negative_scheduler_and_size_are_in_the_picture(tmp_path, files):
    cat = ["--concept", f"cat={files / 'cat.safetensors'}"]
    usual = generate(tmp_path / "a", *cat, prompt="A {cat} on the beach")
    assert Image.open(usual["0.png"]).text == {"prompt": "A {cat} on the beach", "seed": "0"}
    words = ["--negative", "snow", "--scheduler", "euler-a", "--size", "16x24"]
    other = generate(tmp_path / "b", *cat, *words, prompt="A {cat} on the beach")
    found = Image.open(other["1.png"])
    assert found.size == (16, 24)
    assert found.text["negative"] == "snow" and found.text["scheduler"] == "euler-a"
    assert len({path.read_bytes() for path in (*usual.values(), *other.values())}) == 4


def test_a_concept_may_stand_in_the_negative_prompt(tmp_path, files):
    cat = ["--concept", f"cat={files / 'cat.safetensors'}"]
    away = generate(tmp_path / "a", *cat, "--negative", "a {cat}")
    plain = generate(tmp_path / "b", "--negative", "a cat")
    assert away["0.png"].read_bytes() != plain["0.png"].read_bytes()


def test_a_grid_holds_the_pictures(tmp_path):
    found = generate(tmp_path / "a", "--grid", "-n", "3")
    assert list(found) == ["0.png", "1.png", "2.png", "grid.png"]
    sheet = np.asarray(Image.open(found["grid.png"]).convert("RGB")).reshape(-1, 3)
    there = {tuple(pixel) for pixel in sheet}
    for seed in range(3):
        picture = np.asarray(Image.open(found[f"{seed}.png"])).reshape(-1, 3)
        assert {tuple(pixel) for pixel in picture} <= there
    again = generate(tmp_path / "b", "--grid", "-n", "3")
    assert found["grid.png"].read_bytes() == again["grid.png"].read_bytes()


@pytest.fixture(scope="module")
def swept(tmp_path_factory, files):
    out = tmp_path_factory.mktemp("swept") / "out"
    two = [f"--concept={name}={files / f'{name}.safetensors'}" for name in ("cat", "teapot")]
    prompt = f"A {{cat}} and a {{teapot}} {EVIL}"
    words = [*two, "--bias", "cat=0.2:0.8:3,teapot=0.7"]
    return out, generate(out, *words, prompt=prompt), two, prompt


def test_a_step_of_a_sweep_has_the_bytes_of_its_bias_alone(swept, tmp_path):
    _, found, two, prompt = swept
    folders = ("b0.20", "b0.50", "b0.80")
    assert set(found) == {*(f"{one}/{seed}.png" for one in folders for seed in (0, 1)), "sweep.png"}
    alone = generate(tmp_path / "a", *two, "--bias", "cat=0.5,teapot=0.7", prompt=prompt)
    for seed in (0, 1):
        mine, other = (
            Image.open(one) for one in (found[f"b0.50/{seed}.png"], alone[f"{seed}.png"])
        )
        assert mine.tobytes() == other.tobytes()
        assert mine.text == {**other.text, "bias": "0.5"}
    assert len({found[f"{one}/0.png"].read_bytes() for one in folders}) == 3


def test_the_page_of_a_sweep(swept):
    """Self-contained, with every picture at its seed and bias, and nothing of a prompt is code."""
    out, found, _, prompt = swept
    page = (out / "sweep.html").read_text()
    assert (
        EVIL not in page and str(out) not in page and "http" not in page.replace("http-equiv", "")
    )
    blocks = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)
    data, thumbs = map(json.loads, blocks)
    assert data["rows"][0]["text"] == prompt
    assert [one["label"] for one in data["series"]] == ["seed 0", "seed 1"]
    for seed, series in enumerate(data["series"]):
        assert [point["bias"] for point in series["points"]] == [0.2, 0.5, 0.8]
        for point, folder in zip(series["points"], ("b0.20", "b0.50", "b0.80")):
            text = thumbs[data["cells"][point["id"]]["0"]["thumbs"][0]]
            shown = np.asarray(opened(text).resize((1, 1)), float)
            real = Image.open(found[f"{folder}/{seed}.png"]).resize((1, 1))
            assert np.abs(shown - np.asarray(real, float)).max() < 12  # WebP
    assert "cat 0.20 to 0.80, teapot 0.7" in page
    [script] = re.findall(r"<script>\n(.*?)\n</script>", page, re.S)
    assert digest(f"\n{script}\n") in page


def opened(text):
    import base64
    import io

    return Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")


def digest(text):
    import base64

    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_nothing_that_is_there_is_replaced(swept, files):
    out, found, two, prompt = swept
    before = found["sweep.png"].read_bytes()
    with pytest.raises(UserError, match=r"sweep\.png is there already"):
        generate(out, *two, "--bias", "0.3:0.4:2", prompt=prompt)
    assert found["sweep.png"].read_bytes() == before and not (out / "b0.30").exists()


def test_a_linear_gate_has_no_bias_to_sweep(tmp_path, files):
    flat = f"--concept=flat={files / 'flat.safetensors'}"
    with pytest.raises(UserError, match="flat, whose gate is linear and has no bias"):
        generate(tmp_path / "a", flat, "--bias", "0.2:0.8:3", prompt="A {flat}")


# ---- words ----


@pytest.mark.parametrize(
    ("given", "biases", "swept"),
    [
        ("0.6", (0.6,), ()),
        ("cat=0.5,pot=0.7", ({"cat": 0.5, "pot": 0.7},), ()),
        ("0.3:1.0:8", *[(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)] * 2),
        ("1.0:0.5:2", (0.5, 1.0), (0.5, 1.0)),
        (
            "cat=0.3:0.5:2,pot=0.7",
            ({"cat": 0.3, "pot": 0.7}, {"cat": 0.5, "pot": 0.7}),
            (0.3, 0.5),
        ),
    ],
)
def test_what_a_bias_may_say(given, biases, swept):
    assert settings(given) == (biases, swept)


def test_what_a_size_may_say():
    assert size_of("512") == (512, 512) and size_of("768x512") == (512, 768)


def test_what_generate_and_export_would_take_otherwise_is_refused(files, tmp_path):
    """A sheet that a sweep does not draw, a folder named as a picture; export has no ranges."""
    cat = ["--concept", f"cat={files / 'cat.safetensors'}"]
    with pytest.raises(UserError, match="leave --grid out"):
        generate(tmp_path / "a", *cat, "--bias", "0.3:0.4:2", "--grid", prompt="A {cat}")
    for name in ("x.png", "x.JPG"):
        with pytest.raises(UserError, match="would be a folder"):
            generate(tmp_path / name)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"'x' is neither a number nor NAME=NUMBER,\.\.\., nor LO"):
        settings("x")
    small = ["--backbone", str(shared() / "tiny"), "--device", "cpu"]
    words = ["export", str(files / "cat.safetensors"), *small, "--out", str(tmp_path / "e")]
    with pytest.raises(UserError, match=r"'x' is neither a number nor NAME=NUMBER,\.\.\.$"):
        run([*words, "--bias", "x"])
