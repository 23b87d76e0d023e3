"""A run with another VAE than its backbone's own: what is recorded, keyed, drawn and advised."""

import json

import numpy as np
import pytest
from fake_hub import COMMAND, COMMIT, Hub, asked_of
from PIL import Image
from run_kit import arguments, make_scorer, shared
from xl_kit import make_xl, xl_stock

from benchmarks.cli import run
from benchmarks.planning.config import protocol, resolve
from benchmarks.running.prepared import prepare_run
from benchmarks.tables.comparable import differing
from perfusion_core import Backbone, UserError
from perfusion_core.hub import VAES
from perfusion_core.sampling import noise
from perfusion_core.weight_digests import vae_digest


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A backbone without C, and a VAE that was made for float16."""
    folder = tmp_path_factory.mktemp("kit")
    make_xl().save_pretrained(folder / "tiny-xl")
    for number, name in enumerate(("scorer", "scorer2"), 1):
        make_scorer(folder / "tiny-xl" / name, number)
    vae = make_xl(5).vae
    vae.register_to_config(force_upcast=False)
    vae.save_pretrained(folder / "fixed")
    return folder


def words(kit, *more, dtype="float32"):
    few = ["--set=steps=2", "--set=images=1", "--prompts", "1", "--concepts", "cat", "--no-cache"]
    place = ["--backbone", kit / "tiny-xl", "--suite", shared() / "concepts", "--device", "cpu"]
    every = [*place, "--preset", "micro", "--methods", "lora", "--dtype", dtype, *few, *more]
    return [str(word) for word in every]


@pytest.fixture(scope="module")
def done(kit):
    """A run with it and one without."""
    for name, more in (("with", ["--vae", kit / "fixed"]), ("without", [])):
        assert run(["run", *words(kit, *more, "--methods", "super"), "--out", str(kit / name)]) == 0
    return kit / "with", kit / "without"


def test_it_is_recorded_with_its_digest_and_off_unless_it_is_asked_for(kit, done):
    told, plain = (json.loads((folder / "run.json").read_text()) for folder in done)
    assert told["backbone"]["vae"] == {"id": "fixed", "sha256": vae_digest(kit / "fixed")}
    assert told["protocol"]["vae"] == vae_digest(kit / "fixed")
    assert told["backbone"]["sha256"] == plain["backbone"]["sha256"]
    assert "vae" not in plain["backbone"] and "vae" not in plain["protocol"]
    assert differing(plain, told) == [f"vae: None -> {vae_digest(kit / 'fixed')}"]
    assert "vae" not in protocol(resolve(preset="paper"))


def test_it_draws_as_stock_diffusers_does_with_it(kit, done):
    backbone = Backbone.open(kit / "tiny-xl", device="cpu", dtype="float32")
    stock = xl_stock(backbone)
    for folder, vae in zip(done, (make_xl(5).vae, make_xl().vae)):
        [file] = folder.glob("images/super/*/cat/*/cell.json")
        cell = json.loads(file.read_text())
        stock.vae = vae
        theirs = stock(
            cell["template"].replace("{cat}", "cat"), latents=noise(backbone, cell["seeds"]),
            num_inference_steps=2, guidance_scale=6.0, output_type="np",
        ).images[0]  # fmt: skip
        ours = np.asarray(Image.open(file.parent / "0.png"))
        assert np.abs(ours - theirs * 255).max() < 1.5


def test_it_decides_the_keys_of_fits_and_pictures(kit):
    flags = {"backbone": str(kit / "tiny-xl"), "suite": str(shared() / "concepts"),
             "device": "cpu", "dtype": "float32", "methods": "lora"}  # fmt: skip
    own, other = (
        prepare_run(resolve(preset="micro", flags=flags | more)).plan
        for more in ({}, {"vae": str(kit / "fixed")})
    )
    assert len(own.units) == len(other.units)
    assert not {unit.key for unit in own.units} & {unit.key for unit in other.units}


def test_one_of_another_family_is_refused_before_anything_is_done(kit, tmp_path):
    """Stable Diffusion 1.x scales its latents otherwise than XL."""
    out = tmp_path / "run"
    said = r"the VAE fixed makes other latents than the backbone's own \(scaling_factor 0.18215 -> "
    with pytest.raises(UserError, match=said) as told:
        run(["run", *arguments(shared(), out, "--vae", str(kit / "fixed"))])
    assert len(str(told.value).split()) <= 40 and not out.exists()


def test_a_run_goes_on_with_the_same_one_only(kit, done):
    with pytest.raises(UserError, match="vae"):
        run(["run", *words(kit, "--methods", "super"), "--out", str(done[0])])


@pytest.mark.parametrize(("dtype", "more", "told"), [
    ("float16", [], True), ("float32", [], False), ("float16", ["--vae"], False),
])  # fmt: skip
def test_float16_is_advised_of_it(kit, capsys, dtype, more, told):
    more = [*more, kit / "fixed"] if more else []
    run(["plan", *words(kit, *more, dtype=dtype)])
    said = "the VAE of tiny-xl leaves float16's range, so it stays in float32; --vae fp16-fix"
    assert (said in capsys.readouterr().out) == told


def test_a_run_in_float16_is_advised_of_it(kit, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(["run", *words(kit, "--methods", "super", dtype="float16"), "--out", str(out)]) == 0
    assert "--vae fp16-fix takes one that was made for float16" in capsys.readouterr().err


def test_a_fit_is_trained_with_it(kit, tmp_path):
    """Latents of the pictures are its own, so the matrices are others."""
    files = []
    for name, more in (("own", []), ("other", ["--vae", str(kit / "fixed")])):
        out = tmp_path / name
        words = ["fit", "lora", "--concept", "cat", "--suite", str(shared() / "concepts")]
        words += ["--backbone", str(kit / "tiny-xl"), "--device", "cpu", "--dtype", "float32"]
        assert run([*words, "--steps", "2", "--out", str(out), *more]) in (0, None)
        files.append((out / "pytorch_lora_weights.safetensors").read_bytes())
    assert files[0] != files[1]


def test_by_name_it_comes_from_the_hub_and_its_revision_is_recorded(kit, tmp_path):
    hub = Hub({VAES["fp16-fix"]: kit / "fixed"})
    draw = ["run", *words(kit, "--vae", "fp16-fix", "--methods", "super")]
    draw += ["--out", str(tmp_path / "run")]
    done = asked_of(tmp_path / "home", *draw, code=COMMAND, endpoint=hub.address)
    hub.close()
    assert done.returncode == 0, done.stderr
    assert f"fp16-fix = {VAES['fp16-fix']} at" in done.stderr
    told = json.loads((tmp_path / "run" / "run.json").read_text())["backbone"]["vae"]
    digest = vae_digest(kit / "fixed")
    assert told == {"id": "fp16-fix", "revision": COMMIT, "sha256": digest}
