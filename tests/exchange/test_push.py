"""`perfbench push` against a hub of our own, by the real client: what is sent, what is said, what
is refused, and that a concept comes back as it was.
"""

import html
import json
import re
import shutil

import pytest
import torch
import yaml
from conftest import make_concept
from fake_hub import COMMAND, SILENT, Hub, known_here
from fake_hub import asked_of as fetch
from hostile_kit import refused
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from run_kit import shared
from safetensors.torch import save_file

from benchmarks.cli import run
from benchmarks.exchange.model_card import plain
from benchmarks.exchange.parcel import parcel
from perfusion_core.backbone import Backbone
from perfusion_core.errors import UserError

TOKEN = {"HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_XET": "1"}
EVIL = "<script>alert(1)</script> | `x` [a](b)"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A concept, an export of it, and pictures as `perfbench generate` leaves them."""
    root = tmp_path_factory.mktemp("made")
    backbone = Backbone.open(shared() / "tiny", device="cpu", dtype="float32")
    make_concept(backbone, "teddy", "toy").save(root / "teddy.safetensors")
    (root / "export").mkdir()
    embedding = {"emb_params": torch.zeros(1, 8)}
    told = {"perfbench.backbone": "owner/base 0123", "perfbench.concepts": "teddy=toy"}
    save_file(embedding, root / "export" / "teddy_emb.safetensors", told)
    lora = {"lora_unet_x.lora_up.weight": torch.zeros(2, 2)}
    save_file(lora, root / "export" / "teddy_lora.safetensors", {"r2": "0.98", "evil": EVIL})
    for seed, prompt in enumerate(("A {teddy} on the beach", f"A {{teddy}} {EVIL}")):
        told = PngInfo()
        told.add_text("prompt", prompt)
        told.add_text("seed", str(seed))
        (root / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (90 * seed, 0, 0)).save(
            root / "pictures" / f"{seed}.png", pnginfo=told
        )
    Image.new("RGB", (40, 20)).save(root / "pictures" / "sweep.png")
    return root


@pytest.fixture
def hub(tmp_path):
    found = Hub({}, token="hf_secret", accepts=tmp_path / "hub")
    yield found
    found.close()


@pytest.fixture
def live(hub, tmp_path, monkeypatch):
    """The same hub for the client of this process: no import a command."""
    known_here(monkeypatch, hub.address, tmp_path / "cache")
    return hub


def perfbench(hub, home, *words, **more):
    given = {**TOKEN, **more}
    return fetch(home, *map(str, words), endpoint=hub.address, code=COMMAND, **given)


def front_of(readme):
    return yaml.safe_load(readme.split("---\n")[1])


def test_a_pushed_concept_comes_back_and_draws_the_same_bytes(hub, made, tmp_path):
    file, pictures = made / "teddy.safetensors", made / "pictures"
    words = ["push", file, "me/teddy", "--pictures", pictures, "--base-model", "owner/base"]
    done = perfbench(hub, tmp_path, *words, "--private", "--yes")
    assert done.returncode == 0, done.stderr
    # What was said before, and what was sent.
    names = ["README.md", "images/0.png", "images/1.png", "points.png", "teddy.safetensors"]
    assert "sends 5 files, " in done.stderr and "(private)" in done.stderr
    assert re.findall(r"^  (\S+) \(", done.stderr, re.M) == names
    [*_, (commit, folder)] = hub.commits["me/teddy"].items()
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*")) == names
    assert (folder / "teddy.safetensors").read_bytes() == file.read_bytes()
    assert hub.made == [{"name": "teddy", "organization": "me", "visibility": "private"}]
    # The card.
    readme = (folder / "README.md").read_text()
    front = front_of(readme)
    assert front["base_model"] == "owner/base" and "perfusion" in front["tags"]
    assert front["instance_prompt"] == "a photo of a {teddy}"
    assert front["widget"][1] == {"text": f"A {{teddy}} {EVIL}", "output": {"url": "images/1.png"}}
    body = readme.split("---\n", 2)[2]
    cells = re.findall(r'alt="([^"]*)" width="200"><br>(.*?)</td>', body)
    assert [[html.unescape(text) for text in cell] for cell in cells] == [
        ["A {teddy} on the beach"] * 2,
        [f"A {{teddy}} {EVIL}"] * 2,
    ]
    assert (
        "`perfusion_core/comfyui`" in body
        and "<script>" not in body
        and "![What the bias changes](points.png)" in body
    )
    assert str(made) not in readme and str(tmp_path) not in readme
    assert "prompt" not in Image.open(folder / "images" / "0.png").info
    # What is printed pins the commit, and draws what the file draws.
    page, call, command = done.stdout.splitlines()
    assert page.endswith(f"/me/teddy/tree/{commit}")
    assert call == f'load_concepts(pipe, {{"teddy": "me/teddy@{commit}"}})'
    assert f"--concept teddy=me/teddy@{commit} --backbone tiny --out" in command
    small = ["--backbone", shared() / "tiny", "--device", "cpu", "--dtype", "float32"]
    few = ["generate", "A {teddy} on the beach", "-n", "1", "--steps", "2", *small]
    pulled = ["--concept", f"teddy=me/teddy@{commit}", "--out", tmp_path / "pulled"]
    done = perfbench(hub, tmp_path, *few, *pulled)
    assert done.returncode == 0, done.stderr
    assert run([*map(str, few), "--concept", f"teddy={file}", "--out", str(tmp_path / "own")]) == 0
    drawn = [(tmp_path / name / "0.png").read_bytes() for name in ("pulled", "own")]
    assert drawn[0] == drawn[1]


def test_what_is_there_is_replaced_only_when_told(live, made, tmp_path):
    push = ["push", str(made / "teddy.safetensors"), "me/teddy", "--pictures", "none", "--yes"]
    assert run(push) == 0
    push[1] = str(shutil.copy(made / "teddy.safetensors", tmp_path / "bear.safetensors"))
    with pytest.raises(UserError, match=r"README\.md, teddy\.safetensors already"):
        run(push)
    assert len(live.commits["me/teddy"]) == 2
    assert run([*push, "--overwrite"]) == 0
    folder = list(live.commits["me/teddy"].values())[-1]
    assert {path.name for path in folder.iterdir()} == {"README.md", "bear.safetensors"}


def test_a_public_repository_is_not_taken_for_a_private_one(live, made, capsys):
    """`create_repo` leaves who sees it as it was, so nothing may be sent."""
    push = ["push", str(made / "teddy.safetensors"), "me/teddy", "--pictures", "none", "--yes"]
    run(push)
    with pytest.raises(UserError, match="in its settings on the hub first"):
        run([*push, "--private", "--overwrite"])
    assert len(live.commits["me/teddy"]) == 2
    live.hidden.add("me/teddy")
    run([*push, "--private", "--overwrite"])
    assert "(private)" in capsys.readouterr().err


def test_overwrite_deletes_what_a_card_of_ours_names_and_nothing_else(live, made, capsys):
    push = ["push", str(made / "teddy.safetensors"), "me/teddy", "--yes", "--overwrite"]
    run([*push, "--pictures", str(made / "pictures")])
    folder = list(live.commits["me/teddy"].values())[-1]
    (folder / "images" / "mine.png").write_bytes(b"mine")
    (folder / "notes.txt").write_text("mine")
    run([*push, "--pictures", "none"])
    said = capsys.readouterr().err.splitlines()
    assert "perfbench: replaces there: README.md, teddy.safetensors" in said
    assert "perfbench: deletes there: images/0.png, images/1.png, points.png" in said
    folder = list(live.commits["me/teddy"].values())[-1]
    left = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*"))
    assert left == ["README.md", "images/mine.png", "notes.txt", "teddy.safetensors"]
    # A concept that no card names would stand beside the new one.
    shutil.copy(made / "teddy.safetensors", folder / "other.safetensors")
    with pytest.raises(UserError, match=r"holds other\.safetensors, which its card does not name"):
        run([*push, "--pictures", "none"])


def test_nothing_is_sent_by_mistake(made, monkeypatch):
    """No yes, no token, no network."""
    push = ["push", str(made / "teddy.safetensors"), "me/teddy", "--pictures", "none"]
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi", None)  # whatever calls it ends in a traceback
    with pytest.raises(UserError, match="--yes sends, --dry-run shows what"):
        run(push)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        run([*push, "--yes"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="hf auth login"):
        run([*push, "--yes"])


def test_what_the_hub_refuses_is_one_sentence(live, made, tmp_path, monkeypatch, capsys):
    """Another's name, and a hub that does not answer."""
    push = ["push", made / "teddy.safetensors", "somebody-else/teddy", "--pictures", "none"]
    other = refused(monkeypatch, capsys, *push, "--yes")
    known_here(monkeypatch, SILENT, tmp_path / "cache")
    silent = refused(monkeypatch, capsys, *push, "--yes")
    for one, says in ((other, "your token may write there"), (silent, "cannot be reached")):
        assert says in one and "hf_secret" not in one
    assert not live.commits and not any(line.startswith("PUT") for line in live.asked)


# ---- without a hub ----


def dry(tmp_path, *words):
    out = tmp_path / "card"
    assert run(["push", *map(str, words), "--dry-run", "--out", str(out)]) == 0
    return out


def test_a_dry_run_writes_the_folder_of_an_export(made, tmp_path, capsys):
    out = dry(tmp_path, made / "export", "me/teddy")
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "teddy_emb.safetensors",
        "teddy_lora.safetensors",
    }
    assert "would send 3 files" in capsys.readouterr().err
    readme = (out / "README.md").read_text()
    front = front_of(readme)
    assert front["base_model"] == "owner/base" and {"lora", "textual-inversion"} <= {*front["tags"]}
    assert front["instance_prompt"] == "a photo of a teddy_emb" and "widget" not in front
    assert "embedding:teddy_emb" in readme and "load_lora_weights('me/teddy'" in readme
    assert "| r2 | 0.98 |" in readme and "<script>" not in readme


GUESS = "Untuned: the rates of its training are a guess for this backbone, so that a low score says"


def test_a_card_says_whose_rates_are_a_guess(made, tmp_path):
    """As `perfbench fit` left it beside the file, or inside the folder of a fit."""
    for name, beside in (("teddy", "teddy.json"), ("concept", "fit.json")):
        folder = tmp_path / name
        folder.mkdir()
        file = shutil.copy(made / "teddy.safetensors", folder / f"{name}.safetensors")
        for told in ({}, {"untuned": True}, {"untuned": "<b>"}):
            (folder / beside).write_text(json.dumps({"steps": 3, **told}))
            words = ["me/teddy", "--pictures", "none", "--overwrite"]
            readme = (dry(tmp_path, file, *words) / "README.md").read_text()
            marked = told.get("untuned") is True
            assert ("2305.01644) (untuned) (key-locked" in readme) == marked == (GUESS in readme)


def test_a_card_of_an_export_says_so_too(made, tmp_path):
    assert GUESS not in (dry(tmp_path, made / "export", "me/t") / "README.md").read_text()
    folder = shutil.copytree(made / "export", tmp_path / "export")
    save_file(
        {"emb_params": torch.zeros(1, 8)},
        folder / "teddy_emb.safetensors",
        {"perfbench.untuned": "teddy", "perfbench.concepts": "teddy=toy"},
    )
    readme = (dry(tmp_path, folder, "me/t", "--overwrite") / "README.md").read_text()
    assert "2305.01644) (untuned)" in readme and GUESS in readme


def test_a_card_of_another_methods_lora_does_not_name_perfusion(tmp_path):
    """Its header tells the backbone, as `perfbench export` writes it, and no concept."""
    file = tmp_path / "toy_lora.safetensors"
    told = {"perfbench.backbone": "owner/base 0123", "perfbench.untuned": "toy"}
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(2, 2)}, file, told)
    readme = (dry(tmp_path, file, "me/toy") / "README.md").read_text()
    front = front_of(readme)
    assert front["base_model"] == "owner/base"
    assert "lora" in front["tags"] and not {"perfusion", "textual-inversion"} & {*front["tags"]}
    assert "A thing, trained (untuned) into a LoRA for [owner/base]" in readme
    assert "Perfusion" not in readme and GUESS in readme


def test_a_text_is_escaped_once():
    """What a browser shows of it is the text."""
    text = "a_b's #1 `x` | <b> & \\ *y* [c]! ~"
    assert html.unescape(plain(text)) == text
    assert not set(plain(text)) & set("_'`|<\\*[]!~") and plain("a_b &") == "a&#95;b &#38;"


def test_workflows_of_other_programs_stay_here(made, tmp_path):
    """ComfyUI keeps its workflow as the `prompt` of a PNG, with the paths of its owner."""
    workflow = json.dumps({"1": {"inputs": {"path": "C:/Users/somebody/secret"}}})
    for name, texts in (
        ("comfy", {"prompt": workflow, "workflow": workflow}),
        ("seeded", {"prompt": workflow, "seed": "1"}),
        ("unknown", {"prompt": "somebody's secret"}),
        ("ours", {"prompt": "A {teddy}", "seed": "0"}),
    ):
        told = PngInfo()
        for key, text in texts.items():
            told.add_text(key, text)
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png", pnginfo=told)
    out = dry(tmp_path, made / "teddy.safetensors", "me/teddy", "--pictures", tmp_path)
    readme = (out / "README.md").read_text()
    assert "secret" not in readme
    assert [one["text"] for one in front_of(readme)["widget"]] == ["A {teddy}"]


def test_a_real_joint_export_is_pushed_with_both_words_and_its_backbone(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.paths.backbone_names", lambda: {"sd15": shared() / "tiny"})
    backbone = Backbone.open(shared() / "tiny", device="cpu", dtype="float32")
    for seed, name in enumerate(("cat", "pot")):
        make_concept(backbone, name, "cat", seed=seed).save(tmp_path / f"{name}.safetensors")
    given = [str(tmp_path / f"{name}.safetensors") for name in ("cat", "pot")]
    small = ["--backbone", "sd15", "--device", "cpu", "--dtype", "float32"]
    made = str(tmp_path / "export")
    assert run(["export", *given, "--out", made, "--force", *small]) == 0
    out = dry(tmp_path, made, "me/both")
    assert (out / "cat+pot_lora.safetensors").is_file()
    readme = (out / "README.md").read_text()
    front = front_of(readme)
    assert front["base_model"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert front["instance_prompt"] == "a photo of a cat_emb and a pot_emb"
    assert "`embedding:cat_emb` and `embedding:pot_emb` in the prompt" in readme
    assert "`cat_emb` and `pot_emb` in the prompt" in readme
    for name in ("cat", "pot"):
        assert f'weight_name="{name}_emb.safetensors", token="{name}_emb"' in readme
    assert 'pipe("a cat_emb and a pot_emb on the beach")' in readme


def test_without_pictures_the_concept_is_drawn(made, tmp_path):
    file = made / "teddy.safetensors"
    small = ["--backbone", shared() / "tiny", "--device", "cpu", "--dtype", "float32"]
    out = dry(tmp_path, file, "me/teddy", *small)
    front = front_of((out / "README.md").read_text())
    assert [one["text"] for one in front["widget"]][:2] == [
        "A photo of a {teddy}",
        "A {teddy} on the beach",
    ]
    assert "base_model" not in front and Image.open(out / "points.png").width > 500
    with pytest.raises(UserError, match="is there already"):
        dry(tmp_path, file, "me/teddy", *small)


def test_scores_of_a_run_stand_with_their_intervals(tmp_path):
    """Of the run that drew with these very bytes; the mean is that of the cells."""
    import pandas as pd
    from made_run import LOCAL, make_run

    folder = tmp_path / "run"
    make_run(folder, {"perfusion": LOCAL[:2]}, ["cat", "teapot"], prompts=3, images=2, size=16)
    backbone = Backbone.open(shared() / "tiny", device="cpu", dtype="float32")
    make_concept(backbone, "cat", "cat").save(tmp_path / "cat.safetensors")
    from perfusion_core.weight_digests import file_sha256

    [fit] = folder.glob("fits/perfusion/cat-*/fit.json")
    about = json.loads(fit.read_text())
    about["files"]["weights.safetensors"]["sha256"] = file_sha256(tmp_path / "cat.safetensors")
    fit.write_text(json.dumps(about))
    out = dry(tmp_path, tmp_path / "cat.safetensors", "me/cat", "--run", folder)
    readme = (out / "README.md").read_text()
    cells = pd.read_csv(folder / "cells.csv")
    mine = cells[(cells["concept"] == "cat") & (cells["point"] == LOCAL[0])]
    means = mine[mine["metric"] == "image_sim"]["mean"]
    half = means.std(ddof=1) / len(means) ** 0.5 * {3: 4.302653}[len(means)]
    row = next(line for line in readme.splitlines() if line.startswith(f"| {plain(LOCAL[0])} "))
    low, high = means.mean() - half, means.mean() + half
    assert f"{means.mean():.3f} [{low:.3f}, {high:.3f}]" in row
    assert "| plain word |" in readme and (out / "points.png").is_file()
    assert front_of(readme)["widget"][0]["output"]["url"] == "images/0.png"
    assert "(untuned)" not in readme
    told = json.loads((folder / "run.json").read_text())
    told["methods"] = {"perfusion": {"of": "perfusion", "config": {}, "untuned": True}}
    (folder / "run.json").write_text(json.dumps(told))
    words = ["me/cat", "--run", folder, "--overwrite"]
    out = dry(tmp_path, tmp_path / "cat.safetensors", *words)
    assert "2305.01644) (untuned)" in (out / "README.md").read_text()
    with pytest.raises(UserError, match="none of its trained files has these bytes"):
        run(["push", str(shared_concept(tmp_path, backbone)), "me/x", "--dry-run",
             "--out", str(tmp_path / "no"), "--run", str(folder)])  # fmt: skip


def shared_concept(folder, backbone):
    make_concept(backbone, "dog", "dog").save(folder / "dog.safetensors")
    return folder / "dog.safetensors"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("NOWHERE", "me/x"), "there is no"),
        (("PICTURES", "me/x"), "has no .safetensors file"),
        (("PICTURES/0.png", "me/x"), "pickles run code"),
        (("EMPTY", "me/x"), "truncated"),
        (("CONCEPT", "teddy"), "cannot be a repository"),
        (("CONCEPT", "me/../x"), "cannot be a repository"),
        (("CONCEPT", "me/x@main"), "cannot be a repository"),
        (("CONCEPT", "me/x", "--pictures", "NOWHERE"), "is no folder"),
        (("CONCEPT", "me/x", "--pictures", "EXPORT"), "no picture that tells its prompt"),
        (("CONCEPT", "me/x", "--base-model", "not an id"), "is no hub id"),
        (("CONCEPT", "me/x", "--run", "NOWHERE"), "NOWHERE"),
        (("CONCEPT", "me/x", "--run", "R", "--pictures", "none"), "--run has pictures of its own"),
        (("EXPORT", "me/x", "--run", "NOWHERE"), "this is an export"),
    ],
)
def test_refusals(made, tmp_path, words, says):
    (tmp_path / "empty.safetensors").write_bytes(b"")
    places = {
        "PICTURES": made / "pictures",
        "CONCEPT": made / "teddy.safetensors",
        "EXPORT": made / "export",
        "EMPTY": tmp_path / "empty.safetensors",
    }
    for name, place in places.items():
        words = [word.replace(name, str(place)) for word in words]
    with pytest.raises(UserError, match=re.escape(says)):
        run(["push", *words, "--dry-run", "--out", str(tmp_path / "card")])
    assert not (tmp_path / "card").exists()


def test_a_dry_run_deletes_an_earlier_card_and_nothing_else(made, tmp_path, monkeypatch):
    words = [made / "teddy.safetensors", "me/teddy", "--pictures", "none", "--overwrite"]
    out = dry(tmp_path, *words)
    assert dry(tmp_path, *words) == out  # of an earlier card
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes\.txt, which no earlier card names"):
        dry(tmp_path, *words)
    assert (out / "notes.txt").read_text() == "mine"
    (out / "notes.txt").unlink()
    with pytest.raises(UserError, match="holds what is sent or shown"):
        dry(tmp_path, out, *words[1:])
    monkeypatch.chdir(out)
    for place in (".", "..", "/", str(out)):
        with pytest.raises(UserError, match="is the current folder or one above it"):
            run(["push", *map(str, words), "--dry-run", "--out", place])
    assert {path.name for path in out.iterdir()} == {"README.md", "teddy.safetensors"}


def test_what_is_no_export_is_not_sent(made, tmp_path):
    import torch

    save_file({"unet.weight": torch.zeros(2)}, tmp_path / "x_lora.safetensors")
    with pytest.raises(UserError, match="neither an embedding nor a LoRA"):
        parcel(tmp_path / "x_lora.safetensors")
    good = (made / "export" / "teddy_lora.safetensors").read_bytes()
    for bad in (good[:-3], good[:20], b"\xff" * 40):
        (tmp_path / "x_lora.safetensors").write_bytes(bad)
        with pytest.raises(UserError, match="truncated"):
            parcel(tmp_path / "x_lora.safetensors")
    (tmp_path / "x_lora.safetensors").unlink()
    for name in ("a", "b"):
        shutil.copy(made / "teddy.safetensors", tmp_path / f"{name}.safetensors")
    with pytest.raises(UserError, match="has 2 concepts"):
        parcel(tmp_path)


def test_fit_refuses_before_it_trains(tmp_path, monkeypatch):
    concept = [
        "--concept",
        str(shared() / "concepts" / "cat"),
        "--backbone",
        str(shared() / "tiny"),
    ]
    fit = ["fit", "perfusion", *concept, "--device", "cpu", "--steps", "1", "--set", "batch=2"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for out, repo, says in (
        ("cat.safetensors", "cat", "cannot be a repository"),
        ("cat", "me/cat", "--push sends a concept file"),
        ("cat.safetensors", "me/cat", "HF_HUB_OFFLINE is set"),
    ):
        with pytest.raises(UserError, match=says):
            run([*fit, "--out", str(tmp_path / out), "--push", repo])
    assert not list(tmp_path.iterdir())


def test_fit_asks_the_hub_before_it_trains(live, made, tmp_path):
    """A card that is there, although --overwrite of fit is given; no right to write."""
    concept = ["--concept", shared() / "concepts" / "cat", "--backbone", shared() / "tiny"]
    fit = ["fit", "perfusion", *concept, "--steps", "1", "--out", tmp_path / "cat.safetensors"]
    run(["push", str(made / "export"), "me/cat", "--yes"])
    for role, repo, more, says in (
        ("write", "me/cat", ["--overwrite"], r"README\.md already; give another name, or train"),
        ("write", "me/cat", ["--private"], "for all to see"),
        ("write", "somebody-else/cat", [], "your token may write there"),
        ("read", "me/new", [], "a token that only reads"),
    ):
        live.role = role
        with pytest.raises(UserError, match=says):
            run([*map(str, fit), "--push", repo, *more])
    assert not (tmp_path / "cat.safetensors").exists()
    assert len(live.commits["me/cat"]) == 2 and "me/new" not in live.commits


def test_fit_pushes_what_it_trained(hub, tmp_path):
    concept = ["--concept", shared() / "concepts" / "cat", "--backbone", shared() / "tiny"]
    words = ["fit", "perfusion", *concept, "--device", "cpu", "--dtype", "float32", "--steps", "1"]
    more = ["--set", "batch=2", "--out", tmp_path / "cat.safetensors", "--push", "me/cat"]
    done = perfbench(hub, tmp_path, *words, *more)
    assert done.returncode == 0, done.stderr
    folder = list(hub.commits["me/cat"].values())[-1]
    sent = (folder / "cat.safetensors").read_bytes()
    assert sent == (tmp_path / "cat.safetensors").read_bytes()
    assert "load_concepts(pipe" in done.stdout
