"""Hub ids against a hub of our own: what is said before a download, what is fetched, offline,
tokens, revisions.

huggingface_hub reads its environment once, so every case is a process; without torch it starts in a
second.
"""

import shutil
from pathlib import Path

import pytest
from fake_hub import COMMAND, COMMIT, Hub, asked_of

from perfusion_core.hub import HUB, VAE_FILES, VAES, used, variant_in, whole

CALL = """
import sys
from perfusion_core.errors import UserError
from perfusion_core.hub import fetch_checkpoint
try:
    print(fetch_checkpoint(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
except UserError as error:
    sys.exit(f"perfbench: {error}")
assert "torch" not in sys.modules
"""


PLAIN = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    *(f"{part}/config.json" for part in ("text_encoder", "unet", "vae")),
]
FULL = ["text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors"]  # fmt: skip
HALF = [name.replace(".safetensors", ".fp16.safetensors") for name in FULL]
AROUND = [
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "README.md",
    "v1-5-pruned.ckpt",
    "v1-5-pruned.safetensors",
    "safety_checker/model.safetensors",
    "text_encoder/pytorch_model.bin",
]


def fetch(home, *words, **more):
    return asked_of(home, *words, **{"code": CALL, **more})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The files of a checkpoint with all that lies around in real repositories; nothing opens them
    here.
    """
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    for number, name in enumerate([*PLAIN, *FULL, *HALF, *AROUND]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content = bytes([number]) * (700_000 if name in FULL else 3)
        (folder / name).write_bytes(
            b'{"number": %d}' % number if name.endswith(".json") else content
        )
    return folder


def test_first_use_says_how_much_then_the_cache_is_enough(model, tmp_path):
    hub = Hub({HUB["sd15"]: model})
    first = fetch(tmp_path, "sd15", endpoint=hub.address)
    assert first.returncode == 0, first.stderr
    said = first.stderr.strip().splitlines()[0]
    assert said.startswith(
        f"sd15 = {HUB['sd15']} at {COMMIT[:8]}: 10 files, 2.1 MB, will be downloaded once"
    )
    assert str(tmp_path / "hub") in said
    folder = first.stdout.strip()
    assert folder.startswith(str(tmp_path)) and folder.endswith(COMMIT)
    assert hub.fetched() == {*PLAIN, *FULL}  # no pickle, no fp16, no safety checker
    hub.asked.clear()
    again = fetch(tmp_path, "sd15", endpoint=hub.address)
    assert (again.stdout, again.stderr, hub.fetched()) == (first.stdout, "", set())
    hub.close()
    # told to stay offline, and a hub that does not answer
    for more in ({"HF_HUB_OFFLINE": "1"}, {}):
        offline = fetch(tmp_path, "sd15", **more)
        assert (offline.returncode, offline.stdout) == (0, first.stdout), offline.stderr


@pytest.mark.parametrize(
    ("more", "why"), [({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"), ({}, "cannot be reached")]
)
def test_offline_with_nothing_cached_is_one_sentence(tmp_path, more, why):
    done = fetch(tmp_path, "sd15", **more)
    assert done.returncode == 1 and done.stdout == ""
    sentence = done.stderr.strip()
    assert "\n" not in sentence
    assert (
        sentence.startswith(f"perfbench: the backbone sd15 ({HUB['sd15']}) is not in {tmp_path}")
        and why in sentence
    )
    assert "give --backbone the path of a folder" in sentence


def test_half_a_download_is_not_a_checkpoint(model, tmp_path):
    hub = Hub({"owner/tiny": model})
    done = fetch(tmp_path, "owner/tiny", endpoint=hub.address)
    hub.close()
    (Path(done.stdout.strip()) / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    offline = fetch(tmp_path, "owner/tiny", HF_HUB_OFFLINE="1")
    assert offline.returncode == 1 and "owner/tiny is not in" in offline.stderr


def test_tokens_revisions_and_unknown_names(model, tmp_path):
    hub = Hub({"owner/gated": model}, token="hf_secret")
    closed = fetch(tmp_path, "owner/gated", endpoint=hub.address)
    assert (
        closed.returncode == 1
        and "set HF_TOKEN" in closed.stderr
        and "hf_secret" not in closed.stderr
    )
    opened = fetch(tmp_path, "owner/gated", endpoint=hub.address, HF_TOKEN="hf_secret")
    assert opened.returncode == 0 and opened.stdout.strip().endswith(COMMIT), opened.stderr
    revision = fetch(tmp_path, "owner/gated", "v9", endpoint=hub.address, HF_TOKEN="hf_secret")
    assert revision.returncode == 1 and "no revision 'v9'" in revision.stderr
    pinned = fetch(tmp_path, "owner/gated", COMMIT, endpoint=hub.address, HF_TOKEN="hf_secret")
    assert pinned.stdout == opened.stdout
    nobody = fetch(tmp_path, "owner/nothing", endpoint=hub.address)
    assert nobody.returncode == 1 and "does not give out owner/nothing" in nobody.stderr
    hub.close()


def test_a_checkpoint_of_the_hub_draws_by_the_command(tiny_pipe_dir, tmp_path):
    """`--backbone ID --revision COMMIT`, from an empty cache to a picture."""
    hub = Hub({"owner/tiny": tiny_pipe_dir})
    words = [
        "generate",
        "A cat on the beach",
        "--backbone",
        "owner/tiny",
        "--revision",
        COMMIT,
        "--out",
    ]
    few = ["-n", "1", "--steps", "1", "--device", "cpu", "--dtype", "float32"]
    done = fetch(tmp_path, *words, str(tmp_path / "out"), *few, endpoint=hub.address, code=COMMAND)
    hub.close()
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"owner/tiny at {COMMIT[:8]}: ")
    assert (
        done.stdout.strip() == str(tmp_path / "out" / "0.png")
        and (tmp_path / "out" / "0.png").is_file()
    )


def test_pickles_only_is_refused(model, tmp_path):
    pickled = shutil.copytree(model, tmp_path / "pickled")
    for path in pickled.rglob("*.safetensors"):
        path.unlink()
    hub = Hub({"owner/old": pickled})
    done = fetch(tmp_path / "home", "owner/old", endpoint=hub.address)
    hub.close()
    assert done.returncode == 1 and "pickles are never read" in done.stderr
    assert not any(path.suffix == ".bin" for path in (tmp_path / "home").rglob("*"))


SECOND = ["text_encoder_2/config.json", "text_encoder_2/model.safetensors"]
SECOND += ["tokenizer_2/merges.txt", "tokenizer_2/vocab.json"]


@pytest.fixture(scope="module")
def larger(model, tmp_path_factory):
    """The same with a second text encoder and its tokenizer, as Stable Diffusion XL has."""
    folder = shutil.copytree(model, tmp_path_factory.mktemp("hub") / "larger")
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(folder / part, folder / f"{part}_2")
    for path in folder.glob("*_2/*"):  # other bytes: what is the same is not fetched twice
        path.write_bytes(path.read_bytes() + b" ")
    return folder


def test_two_text_encoders_are_fetched_with_both_tokenizers(larger, tmp_path):
    hub = Hub({HUB["sdxl"]: larger})
    done = fetch(tmp_path, "sdxl", endpoint=hub.address)
    hub.close()
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"sdxl = {HUB['sdxl']} at {COMMIT[:8]}: 14 files, 2.8 MB")
    assert hub.fetched() == {*PLAIN, *FULL, *SECOND}
    (Path(done.stdout.strip()) / SECOND[1]).unlink()
    offline = fetch(tmp_path, "sdxl", HF_HUB_OFFLINE="1")
    assert offline.returncode == 1 and "the backbone sdxl" in offline.stderr


VAE = """
import sys
from perfusion_core.errors import UserError
from perfusion_core.places import locate_vae
try:
    print(*locate_vae(*sys.argv[1].split("@")))
except UserError as error:
    sys.exit(f"perfbench: {error}")
assert "torch" not in sys.modules
"""


@pytest.fixture
def vae(tmp_path):
    """The files of the repository of fp16-fix, with what lies around in it."""
    folder = tmp_path / "sdxl-vae-fp16-fix"
    folder.mkdir()
    for number, name in enumerate([*VAE_FILES, "sdxl_vae.safetensors", "README.md"]):
        (folder / name).write_bytes(b'{"number": %d}' % number)
    return folder


def test_a_vae_by_its_short_name_is_fetched_once_and_kept(vae, tmp_path):
    hub = Hub({VAES["fp16-fix"]: vae})
    first = fetch(tmp_path / "home", "fp16-fix", code=VAE, endpoint=hub.address)
    assert first.returncode == 0, first.stderr
    said = f"fp16-fix = {VAES['fp16-fix']} at {COMMIT[:8]}: 2 files, 0 kB, will be downloaded once"
    assert first.stderr.startswith(said) and hub.fetched() == set(VAE_FILES)
    name, folder, revision = first.stdout.split()
    assert (name, revision) == ("fp16-fix", COMMIT) and folder.endswith(COMMIT)
    hub.close()
    for more in ({"HF_HUB_OFFLINE": "1"}, {}):
        offline = fetch(tmp_path / "home", "fp16-fix", code=VAE, **more)
        assert (offline.returncode, offline.stdout) == (0, first.stdout), offline.stderr


def test_a_vae_is_fetched_at_the_revision_that_is_named(vae, tmp_path):
    hub = Hub({"owner/vae": vae})
    done = fetch(tmp_path / "home", f"owner/vae@{COMMIT}", code=VAE, endpoint=hub.address)
    other = fetch(tmp_path / "home", f"owner/vae@{'5' * 40}", code=VAE, endpoint=hub.address)
    hub.close()
    assert done.returncode == 0 and done.stdout.split()[2] == COMMIT, done.stderr
    assert other.returncode == 1 and f"'owner/vae' has no revision '{'5' * 40}'" in other.stderr


def test_what_is_no_vae_on_the_hub_is_one_sentence(vae, tmp_path):
    (vae / VAE_FILES[1]).rename(vae / "diffusion_pytorch_model.bin")  # pickles are never read
    hub = Hub({"owner/vae": vae})
    done = fetch(tmp_path / "home", "owner/vae", code=VAE, endpoint=hub.address)
    absent = fetch(tmp_path / "home", "owner/none", code=VAE, endpoint=hub.address)
    hub.close()
    assert done.returncode == absent.returncode == 1 and hub.fetched() == set()
    assert done.stderr.startswith(
        "perfbench: owner/vae on the hub is not a VAE in diffusers layout"
    )
    assert "does not give out owner/none" in absent.stderr
    offline = fetch(tmp_path / "home", "fp16-fix", code=VAE, HF_HUB_OFFLINE="1")
    assert offline.stderr.startswith(f"perfbench: the VAE fp16-fix ({VAES['fp16-fix']}) is not in")
    assert "give --vae the path of its folder" in offline.stderr
    assert all(one.stderr.strip().count("\n") == 0 for one in (done, absent, offline))


def test_a_refiner_is_refused_before_anything_is_downloaded(larger, tmp_path):
    refiner = shutil.copytree(larger, tmp_path / "refiner")
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(refiner / part)
    hub = Hub({"owner/refiner": refiner})
    done = fetch(tmp_path / "home", "owner/refiner", endpoint=hub.address)
    hub.close()
    assert done.returncode == 1 and "owner/refiner: this is a refiner" in done.stderr
    assert hub.fetched() == set()


@pytest.mark.parametrize(("config", "says"), [
    ('{"in_channels": 9}', "'owner/inpainting' reads 9 channels where latents have 4"),
    ("[", "unet/config.json or vae/config.json of owner/inpainting is broken"),
    ("[4]", "unet/config.json or vae/config.json of owner/inpainting is broken"),
])  # fmt: skip
def test_inpainting_is_refused_before_its_weights_are_downloaded(model, tmp_path, config, says):
    folder = shutil.copytree(model, tmp_path / "inpainting")
    (folder / "unet" / "config.json").write_text(config)
    hub = Hub({"owner/inpainting": folder})
    done = fetch(tmp_path / "home", "owner/inpainting", endpoint=hub.address)
    hub.close()
    assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr
    assert hub.fetched() == {"unet/config.json", "vae/config.json"}


def test_what_other_libraries_download_is_told_as_well(model, tmp_path):
    """Scorers and CLIPSeg: their libraries fetch by themselves, after a line of ours; a silent hub
    adds no line.
    """
    hub = Hub({"owner/scorer": model})
    call = (
        "from perfusion_core.hub import announce_download\n"
        "announce_download('owner/scorer', ['*.json', 'unet/*.safetensors'])"
    )
    said = fetch(tmp_path, endpoint=hub.address, code=call)
    assert said.returncode == 0 and hub.fetched() == set()
    assert said.stderr.startswith(
        f"owner/scorer at {COMMIT[:8]}: 9 files, 700 kB, will be downloaded once"
    )
    hub.close()
    assert fetch(tmp_path, code=call).stderr == ""


def test_which_files_are_used():
    shards = [f"unet/diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    shards += ["unet/diffusion_pytorch_model.safetensors.index.json", FULL[0], FULL[2]]
    assert variant_in([*PLAIN, *HALF]) == "fp16" and set(used([*PLAIN, *HALF])) == {*PLAIN, *HALF}
    assert whole([*PLAIN, *HALF]) and not whole([*PLAIN, *HALF[:2]])
    assert whole([*PLAIN, *FULL, *SECOND]) and not whole([*PLAIN, *FULL, *SECOND[:3:2]])
    everything = [*PLAIN, *HALF, *shards, *AROUND]
    assert set(used(everything)) == {*PLAIN, *shards}
    assert whole(everything) and not whole(shards)
    assert set(used([*PLAIN, *FULL, *HALF, *AROUND])) == {*PLAIN, *FULL}
