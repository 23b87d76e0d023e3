"""`perfbench publish`: what `datasets` reads back offline, what is asked for, what never leaves."""

import hashlib
import io
import json
import re
import shutil
import tracemalloc

import datasets
import made_run
import numpy as np
import pandas as pd
import pytest
import yaml
from fake_hub import COMMAND, Hub, known_here
from fake_hub import asked_of as fetch
from hostile_kit import refused
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from run_kit import ROOT

from benchmarks.cli import run
from benchmarks.exchange import parquet_files
from benchmarks.exchange.leaks import leak
from benchmarks.exchange.plain_png import pixels_alone
from benchmarks.store.reading import read_rows
from perfusion_core.errors import UserError

TOKEN = {"HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_XET": "1"}
LICENCES = ["--licence", "CC-BY-4.0", "--photographs", "cat=cc0-1.0,teapot=none"]


@pytest.fixture(scope="module")
def with_pictures(tmp_path_factory):
    """Read only: two methods, two concepts, six prompts, two pictures each."""
    folder = tmp_path_factory.mktemp("published") / "run"
    methods = {"perfusion": made_run.LOCAL[:1]}
    made_run.make_run(folder, methods, ["cat", "teapot"], prompts=3, images=2, size=16)
    return folder


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """`datasets.load_dataset` of a folder, with a cache of its own and no network."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def load(place, name=None):
        cache = str(tmp_path / "datasets")
        return datasets.load_dataset(str(place), name, split="train", cache_dir=cache)

    return load


def publish(folder, to, *more):
    return run(["publish", str(folder), "--to", str(to), *map(str, more)])


def front_of(readme):
    return yaml.safe_load(readme.split("---\n")[1])


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_datasets_reads_the_four_tables_offline(with_pictures, opened, tmp_path, capsys):
    out = tmp_path / "mine"
    assert publish(with_pictures, out, *LICENCES) == 0
    assert capsys.readouterr().out == f"{out}\n"
    pictures = opened(out, "pictures")
    drawn = sorted((with_pictures / "images").rglob("*.png"))
    assert len(pictures) == len(drawn) == 48
    rows = opened(out, "rows").to_pandas()
    place = ["method", "point", "concept", "prompt_id", "index"]
    scores = rows.set_index(place)
    for row in pictures:
        where = [row[name] for name in place]
        file = with_pictures.joinpath("images", *map(str, where[:-1]), f"{where[-1]}.png")
        assert np.array_equal(np.asarray(row["image"]), np.asarray(Image.open(file)))
        assert row["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        known = scores.loc[tuple(where)]
        assert row["text_sim_raw"] == known["text_sim_raw"]
        assert (row["image_sim"] is None) == (row["kind"] == "deform")
    # Every row of the run, to the last digit.
    own = read_rows(with_pictures)
    assert len(rows) == len(own) and set(rows["method"]) == {"perfusion", "super", "real"}
    for name in ("image_sim", "text_sim_raw"):
        pd.testing.assert_series_equal(
            rows[name].astype(float), own[name].astype(float).reset_index(drop=True)
        )
    prompts = opened(out, "prompts")
    assert set(prompts["prompt_id"]) == {path.parent.name for path in drawn}
    assert len(prompts) == 9 and set(prompts["kind"]) == {"shape", "deform"}
    assert all("{}" in text and "{cat}" not in text for text in prompts["template"])
    cat, teapot = opened(out, "concepts")
    assert (cat["concept"], cat["licence"], len(cat["images"])) == ("cat", "cc0-1.0", 5)
    home = Image.open(with_pictures / "concepts" / "cat" / "0.png")
    assert np.array_equal(np.asarray(cat["images"][0]), np.asarray(home))
    assert (teapot["licence"], teapot["images"]) == ("", [])
    # Without a name, the pictures.
    assert opened(out).column_names == pictures.column_names


def test_the_card_says_what_is_there_and_what_is_not(with_pictures, tmp_path):
    publish(with_pictures, tmp_path / "mine", *LICENCES)
    readme = (tmp_path / "mine" / "README.md").read_text()
    front = front_of(readme)
    assert front["license"] == "cc-by-4.0" and front["size_categories"] == ["n<1K"]
    assert [one["config_name"] for one in front["configs"]] == [
        "pictures",
        "rows",
        "prompts",
        "concepts",
    ]
    assert "Pictures of `teapot`, by the publisher's choice" in readme
    assert "are the same in `pictures` and `rows`. `sha256` is of" in readme
    assert "| sha256 of the backbone | " + "ab" * 32 + " |" in readme
    assert "2305.01644" in readme and "@software{perfbench" in readme
    for name, size, digest in re.findall(
        r"^\| (\S+) \| (\d+) \| `([0-9a-f]{64})` \|$", readme, re.M
    ):
        content = (tmp_path / "mine" / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (int(size), digest)
    # The same run is the same bytes.
    publish(with_pictures, tmp_path / "again" / "mine", *LICENCES)
    for path in (tmp_path / "mine").rglob("*.*"):
        other = tmp_path / "again" / "mine" / path.relative_to(tmp_path / "mine")
        assert path.read_bytes() == other.read_bytes()


def test_a_committed_run_is_published_without_pictures_and_says_so(opened, tmp_path, capsys):
    run_folder = ROOT / "results" / "miniature-quick"
    publish(run_folder, tmp_path / "quick", "--licence", "apache-2.0")
    assert "has no pictures, so rows are published without them" in capsys.readouterr().err
    readme = (tmp_path / "quick" / "README.md").read_text()
    assert not (tmp_path / "quick" / "pictures").exists() and "pictures/train" not in readme
    assert "the run folder had none when it was published" in readme
    assert "`pictures`" not in readme and "sha256` is of" not in readme
    assert "\n\nThe only split is called `train`" in readme
    [scorer] = json.loads((run_folder / "run.json").read_text())["scorers"]
    assert scorer["name"] in readme and "no number here says how a method does" in readme
    rows, own = opened(tmp_path / "quick"), read_rows(run_folder)
    assert len(rows) == len(own) > 1000
    assert np.allclose(
        np.array(rows["text_sim_raw"], float), own["text_sim_raw"].astype(float), 0, 0, True
    )
    # Drawn concepts are known by their digests: nobody has to say whose they are.
    assert set(opened(tmp_path / "quick", "concepts")["licence"]) == {"apache-2.0"}


def test_pictures_are_streamed_in_groups_and_files(tmp_path, monkeypatch, opened):
    """4 MB of pictures by groups of 200 kB: what is held at a time is far less than all of it."""
    monkeypatch.setattr(parquet_files, "GROUP", 200_000)
    monkeypatch.setattr(parquet_files, "FILE", 1_000_000)
    noise = np.random.default_rng(0).integers(0, 256, (100, 120, 120, 3), dtype=np.uint8)
    features = datasets.Features({"image": datasets.Image(), "n": datasets.Value("int32")})
    contents = []
    for picture in noise:
        held = io.BytesIO()
        Image.fromarray(picture).save(held, "PNG")
        contents.append(held.getvalue())
    total = sum(map(len, contents))
    places = []
    for n, content in enumerate(contents):
        (tmp_path / f"{n}.png").write_bytes(content)
        places.append(tmp_path / f"{n}.png")
    del contents
    tracemalloc.start()
    with parquet_files.ParquetFiles(tmp_path / "set" / "pictures", features) as files:
        for n, place in enumerate(places):
            content = place.read_bytes()
            files.add({"image": {"bytes": content, "path": place.name}, "n": n}, len(content))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 4_000_000 and peak < 2_000_000
    assert files.count == 100 and len(list((tmp_path / "set" / "pictures").iterdir())) == 5
    found = datasets.load_dataset(
        "parquet",
        data_files=str(tmp_path / "set" / "pictures" / "*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert found["n"][:] == list(range(100))
    assert np.array_equal(np.asarray(found[57]["image"]), noise[57])


# ---- what never leaves ----


def test_what_programs_write_into_pictures_stays_here(with_pictures, tmp_path, opened):
    folder = shutil.copytree(with_pictures, tmp_path / "run")
    cell = folder / "images" / "super" / "default" / "cat" / "s01"
    told = PngInfo()
    told.add_text("workflow", '{"path": "/home/somebody/secret"}')
    told.add_itxt("note", "hf_" + "a" * 30)
    picture = Image.open(cell / "0.png")
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (52.0, 30.0, 0.0)}  # where it was taken
    picture.save(cell / "0.png", pnginfo=told, exif=exif)
    with (cell / "0.png").open("ab") as file:
        file.write(b"/home/somebody/behind-the-end")
    content = (cell / "0.png").read_bytes()
    about = json.loads((cell / "cell.json").read_text())
    about["files"]["0.png"] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    (cell / "cell.json").write_text(json.dumps(about))
    publish(folder, tmp_path / "mine", *LICENCES)
    for path in (tmp_path / "mine").rglob("*.parquet"):
        assert b"somebody" not in path.read_bytes() and b"workflow" not in path.read_bytes()
    plain = pixels_alone(content, "0.png")
    assert np.array_equal(pixels(plain), pixels(content)) and b"eXIf" in content
    assert not any(word in plain for word in (b"tEXt", b"iTXt", b"eXIf", b"somebody"))


def test_the_card_says_who_is_untuned_who_had_masks_and_who_is_cited(tmp_path):
    folder, methods = tmp_path / "run", {"cd": ("default",), "lora": ("default",)}
    made_run.make_run(folder, methods, ["cat"], prompts=1, images=1, size=16)
    about = json.loads((folder / "run.json").read_text())
    about["methods"] = {
        "cd": {"of": "cd", "config": {}, "untuned": True, "masks": True},
        "lora": {"of": "lora", "config": {}, "masks": False},
    }
    (folder / "run.json").write_text(json.dumps(about))
    publish(folder, tmp_path / "mine", "--licence", "mit", "--photographs", "none")
    readme = (tmp_path / "mine" / "README.md").read_text()
    assert "| cd (untuned) | default |" in readme and "| lora | default |" in readme
    assert "Untuned: the rates of cd are a guess for this backbone" in readme
    assert "Trained with masks: cd. Without: lora." in readme
    for key, times in {"tewel2023keylocked": 1, "kumari2023customdiffusion": 1, "hu2022lora": 1,
                       "ruiz2023dreambooth": 0}.items():  # fmt: skip
        assert readme.count(f"{{{key},") == times, key


def test_a_method_of_ones_own_is_cited_as_its_run_recorded(tmp_path):
    """Its file is not here; nothing of run.json leaves the block, whoever wrote it."""
    own = "@article{mine2026, title = {Mine}, year = {2026}}"
    told = {
        "cd": {"of": "mine", "cite": own},
        "cd-selected": {"of": "mine", "cite": own},
        "ti": {"of": "plain"},
        "db": {"of": "odd", "cite": "@a{odd2026, title = {\n```\n# Evil\n}}"},
        "lora": {"of": "path", "cite": "@a{path2026, url = {/home/somebody/path.pdf}}"},
        "cd-better": {"of": "imported"},
    }
    folder, points = tmp_path / "run", dict.fromkeys(told, ("default",))
    made_run.make_run(folder, points, ["cat"], prompts=1, images=1, size=16)
    about = json.loads((folder / "run.json").read_text())
    about["methods"] = {name: {"config": {}, **one} for name, one in told.items()}
    (folder / "run.json").write_text(json.dumps(about))
    publish(folder, tmp_path / "mine", "--licence", "mit", "--photographs", "none")
    readme = (tmp_path / "mine" / "README.md").read_text()
    assert readme.count(own) == 1
    [line] = [line for line in readme.splitlines() if line.startswith("Nothing to cite was given")]
    assert re.findall("`([^`]+)`", line) == ["ti", "db", "lora", "cd-better"]
    assert "Evil" not in readme and "somebody" not in readme


def test_another_vae_is_named_in_the_card(with_pictures, tmp_path):
    folder = shutil.copytree(with_pictures, tmp_path / "run")
    about = json.loads((folder / "run.json").read_text())
    about["backbone"]["vae"] = {"id": "fp16-fix", "revision": "0123abcd", "sha256": "ef" * 8}
    (folder / "run.json").write_text(json.dumps(about))
    publish(folder, tmp_path / "mine", *LICENCES)
    readme = (tmp_path / "mine" / "README.md").read_text()
    assert f"| VAE | fp16-fix |\n| sha256 of the VAE | {'ef' * 8} |" in readme
    assert "| revision of the VAE | 0123abcd |" in readme


def test_paths_in_run_json_are_left_out_of_the_card(with_pictures, tmp_path):
    folder = shutil.copytree(with_pictures, tmp_path / "run")
    about = json.loads((folder / "run.json").read_text())
    about["backbone"]["id"] = "/home/somebody/models/tuned"
    about["protocol"] = {"suite": "/data/somebody/photos", "steps": 50}
    about["argv"] = ["run", "--backbone", "~/models/tuned", "--methods", "perfusion"]
    about["config"]["ray_address"] = "10.0.0.3:6379"
    about["scorers"][0]["source"] = "/home/somebody/clip"
    (folder / "run.json").write_text(json.dumps(about))
    publish(folder, tmp_path / "mine", *LICENCES)
    readme = (tmp_path / "mine" / "README.md").read_text()
    assert "somebody" not in readme and "10.0.0.3" not in readme and "~/models" not in readme
    assert "| VAE |" not in readme
    assert "| backbone | tuned |" in readme and "| suite | photos |" in readme
    assert "names places of a machine, so it is not printed" in readme


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("A {} in /home/me/photos", "a path of a machine"),
        ("see C:\\Users\\me\\x.png", "a path of a machine"),
        ("~me/photos/cat", "a path of a machine"),
        ("file:///srv/x", "a path of a machine"),
        ("\\\\server\\share\\x", "a path of a machine"),
        ("hf_" + "aB3" * 10, "a token or a password"),
        ("token sk-" + "a1" * 15, "a token or a password"),
        ("-----BEGIN RSA PRIVATE KEY-----", "a token or a password"),
        ("password=correcthorse", "a token or a password"),
        ("https://me:secret@hub.example/x", "an address with a password"),
    ],
)
def test_leaks_are_found(text, why):
    assert why in leak(text)


@pytest.mark.parametrize(
    "text",
    [
        "A photo of a {cat} and a {teapot}",
        "https://arxiv.org/abs/2305.01644",
        "owner/name@revision",
        "results/miniature-quick/table.md",
        "black and/or white, 1/2",
        "a skeleton key: a secret garden",
        "fa112dde70974c8b92a98a8440cb9f8acb9edd0402f68fb1163eb4865b2ec2e9",
    ],
)
def test_what_is_no_leak_is_published(text):
    assert leak(text) == ""


def test_a_prompt_with_a_path_is_refused(with_pictures, tmp_path):
    folder = shutil.copytree(with_pictures, tmp_path / "run")
    plan = (folder / "plan.csv").read_text()
    assert "A {cat} on the beach" in plan
    (folder / "plan.csv").write_text(plan.replace("on the beach", "as in /home/me/beach.png"))
    with pytest.raises(UserError, match=r"would publish a path of a machine \(/home/me/beach"):
        publish(folder, tmp_path / "mine", *LICENCES)
    assert not (tmp_path / "mine").exists() and not list(tmp_path.glob(".mine*"))


# ---- what is asked, and refused ----


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "under which licence may others use it"),
        (("--licence", "do what you like"), "is no identifier of a licence"),
        (("--licence", "mit"), "only you know whose they are"),
        (("--licence", "mit", "--photographs", "cat=mit"), "the pictures of teapot did not come"),
        (("--licence", "mit", "--photographs", "dog=mit"), "which is no concept of the run"),
        (("--licence", "mit", "--photographs", "c'est moi"), "is no identifier of a licence"),
        (("--licence", "mit", "--public"), "--public is of --push"),
        (("--licence", "mit", "--yes"), "--yes is of --push"),
        (("--licence", "mit", "--push", "me"), "cannot be a repository"),
    ],
)
def test_refusals(with_pictures, tmp_path, words, says):
    with pytest.raises(UserError, match=re.escape(says)):
        publish(with_pictures, tmp_path / "mine", *words)
    assert not list(tmp_path.iterdir())


def test_places_that_are_not_written_over(with_pictures, tmp_path, monkeypatch):
    folder = shutil.copytree(with_pictures, tmp_path / "run")
    for place, says in (
        (folder, "needs a folder of its own"),
        (folder / "inside", "lies in the run"),
        (tmp_path, "needs a folder of its own"),
    ):
        with pytest.raises(UserError, match=says):
            publish(folder, place, *LICENCES)
    out = tmp_path / "mine"
    publish(folder, out, *LICENCES)
    with pytest.raises(UserError, match="is there already"):
        publish(folder, out, *LICENCES)
    publish(folder, out, *LICENCES, "--overwrite")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes\.txt, which no earlier card names"):
        publish(folder, out, *LICENCES, "--overwrite")
    assert (out / "notes.txt").read_text() == "mine"


def test_changed_and_missing_pictures(with_pictures, tmp_path, capsys):
    folder = shutil.copytree(with_pictures, tmp_path / "run")
    shutil.rmtree(folder / "images" / "super" / "default" / "cat" / "s01")
    publish(folder, tmp_path / "mine", *LICENCES)
    assert "2 of 48 planned pictures are not in" in capsys.readouterr().err
    assert "2 of 48 planned pictures." in (tmp_path / "mine" / "README.md").read_text()
    changed = folder / "images" / "super" / "default" / "cat" / "s02" / "1.png"
    Image.new("RGB", (16, 16)).save(changed)
    with pytest.raises(UserError, match="is not what was drawn there"):
        publish(folder, tmp_path / "other", *LICENCES)
    assert not (tmp_path / "other").exists() and not list(tmp_path.glob(".other*"))
    for bad, says in ((b"GIF89a", "is no PNG"), (changed.read_bytes()[:40], "is cut short")):
        with pytest.raises(UserError, match=says):
            pixels_alone(bad, "x.png")


# ---- the hub ----


def test_a_pushed_run_is_private_and_comes_back(with_pictures, tmp_path, monkeypatch, capsys):
    """The push that succeeds is a process of its own; what is refused is asked here."""
    hub = Hub({}, token="hf_secret", accepts=tmp_path / "hub")
    known_here(monkeypatch, hub.address, tmp_path / "cache")
    words = ["publish", with_pictures, *LICENCES, "--push", "me/mine", "--to"]
    again = [*words, tmp_path / "mine", "--yes"]
    try:
        unasked = refused(monkeypatch, capsys, *words, tmp_path / "unsent")
        assert "no terminal to ask at" in unasked
        done = fetch(
            tmp_path / "home", *map(str, again), endpoint=hub.address, code=COMMAND, **TOKEN
        )
        assert done.returncode == 0, done.stderr
        assert f"to {hub.address}/datasets/me/mine (private)" in done.stderr
        asked = {"name": "mine", "organization": "me", "type": "dataset", "visibility": "private"}
        assert hub.made == [asked]
        [*_, (commit, sent)] = hub.commits["me/mine"].items()
        own = {path.relative_to(tmp_path / "mine") for path in (tmp_path / "mine").rglob("*.*")}
        assert own == {path.relative_to(sent) for path in sent.rglob("*.*")}
        assert all((sent / p).read_bytes() == (tmp_path / "mine" / p).read_bytes() for p in own)
        page, call = done.stdout.splitlines()
        assert page.endswith(f"/datasets/me/mine/tree/{commit}") and f'revision="{commit}"' in call
        # Again: told first; then what has gone is deleted there, and nothing else.
        assert "is there already" in refused(monkeypatch, capsys, *again)
        shutil.rmtree(tmp_path / "mine")
        said = refused(monkeypatch, capsys, *again)
        assert "README.md" in said and "hf_secret" not in said
    finally:
        hub.close()
