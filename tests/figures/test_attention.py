"""What a word attends to: against the stock attention layer by layer, known pictures, what is kept,
and the command.
"""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import stock_attention
from PIL import Image
from run_kit import copy_of_reference, shared

from benchmarks.cli import run as perfbench
from benchmarks.figures.attention import known_pictures as known
from benchmarks.figures.attention import measuring
from benchmarks.figures.attention.leakage import (
    LEVELS,
    Found,
    Part,
    concepts_of,
    leakage_of,
    read_part,
    smaller,
    text_of,
    write_part,
)
from benchmarks.store.run_folder import Store, attention_folder
from benchmarks.tables.run_view import Run
from benchmarks.tables.statistics import clustered, t_quantile
from perfusion_core.attention import look, outside, word_tokens
from perfusion_core.backbone import cross_attentions
from perfusion_core.errors import UserError

# ---- one forward pass ----


def text_attention(backbone, text, x, t):
    """Probabilities [heads, positions, M] of every cross-attention, as diffusers' own processor
    computes them.
    """
    seen = []
    with (
        torch.no_grad(),
        stock_attention(backbone.unet, lambda _, of_text, probs: seen.append((of_text, probs))),
    ):
        backbone.unet(x, t, encoder_hidden_states=backbone.encode([text]))
    return [probs for of_text, probs in seen if of_text]


def test_a_look_is_what_the_stock_layers_attend_to(tiny_backbone):
    rng = torch.Generator().manual_seed(0)
    texts, words, levels = ["a cat on the beach", "a teapot"], [[2], [1, 2]], [250, 750]
    latents, noise = torch.randn(2, 4, 8, 8, generator=rng), torch.randn(2, 4, 8, 8, generator=rng)
    masks = (torch.rand(2, 1, 16, 16, generator=rng) > 0.6).float()
    found = look(tiny_backbone, texts, words, latents, noise, levels, masks)
    kept = tiny_backbone.scheduler().alphas_cumprod
    for n, (text, word, t) in enumerate(zip(texts, words, levels)):
        x = kept[t].sqrt() * latents[n] + (1 - kept[t]).sqrt() * noise[n]
        leaks, maps = [], []
        layers = text_attention(tiny_backbone, text, x[None], t)
        assert len(layers) == len(cross_attentions(tiny_backbone.unet)) > 1
        for probs in layers:
            side = int(probs.shape[1] ** 0.5)
            inside = masks[n, 0].reshape(side, 16 // side, side, 16 // side).mean((1, 3)).flatten()
            mass = sum(probs[:, :, m] for m in word)  # [heads, positions]
            leaks += [float((head * (1 - inside)).sum() / head.sum()) for head in mass]
            maps.append(
                torch.nn.functional.interpolate(
                    mass.mean(0).reshape(1, 1, side, side), (8, 8), mode="bilinear"
                )[0, 0]
            )
        assert len(leaks) == len(layers) * layers[0].shape[0]
        assert float(found.leakage[n]) == pytest.approx(np.mean(leaks), abs=1e-5)
        torch.testing.assert_close(found.maps[n], torch.stack(maps).mean(0), rtol=1e-3, atol=1e-5)
    assert not any(
        layer.to_q._forward_hooks for layer in cross_attentions(tiny_backbone.unet).values()
    )


def test_share_outside():
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    even, left = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    left[..., 0] = 1
    assert float(outside(even, mask)) == pytest.approx(0.5)
    assert float(outside(left, mask)) == 0 and float(outside(left.flip(-1), mask)) == 1
    assert float(outside(even, mask[..., :1, :].expand(1, 1, 8, 8) * 0 + 1)) == 0


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("A {cat} on the beach", ["cat"]),  # perfusion, ti: one learned token
        ("A {cat} cat on the beach", ["cat", "cat"]),  # cd
        ("A {cat 1} {cat 2} cat on the beach", ["cat", "cat", "cat"]),  # pivotal
        ("A sks cat on the beach", ["sks", "cat"]),  # db, lora
        ("A cat on the beach", ["cat"]),  # super
    ],
)
def test_the_words_of_a_concept_are_all_that_the_method_wrote(tiny_backbone, written, words):
    tokenizer = tiny_backbone.tokenizer
    found = word_tokens(tokenizer, "A {cat} on the beach", "cat", written, "cat")
    ids = tokenizer(re.sub(r"\{.*?\}", "cat", written)).input_ids
    assert [tokenizer.decode([ids[m]]).strip() for m in found] == words


def test_words_at_the_ends_and_beside_punctuation(tiny_backbone):
    tokenizer = tiny_backbone.tokenizer
    assert word_tokens(tokenizer, "{cat}", "cat", "{cat}", "cat") == [1]
    assert word_tokens(tokenizer, "{cat}, on the moon", "cat", "sks cat, on the moon", "cat") == [
        1,
        2,
    ]
    with pytest.raises(UserError, match="its attention is not known"):
        word_tokens(tokenizer, "A {cat} on the beach", "cat", "On the beach, a cat", "cat")
    with pytest.raises(UserError, match="cut off"):
        word_tokens(tokenizer, "beach " * 90 + "{cat}", "cat", "beach " * 90 + "cat", "cat")


# ---- pictures in which it is known where the concept is ----


def photographs_of(folder, concept):
    for n, (picture, mask) in enumerate(zip(*known.photographs(concept))):
        (folder / "masks").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{n}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{n}.png")
    return folder


def test_the_worlds_own_concept_is_drawn_in_the_prompts_scenes(tmp_path):
    folder = photographs_of(tmp_path / "cat", "cat")
    templates = {
        "s01": "A {cat} on the beach",
        "s02": "A {cat} in the snow",
        "x": "A {cat} in a parliament of owls",
    }
    found = known.known_pictures(folder, "cat", "cat", templates)
    assert [(one.name, one.template) for one in found] == [
        ("s01", templates["s01"]),
        ("s02", templates["s02"]),
    ]
    one = known.instance_of("cat")
    for picture in found:
        assert picture.picture.shape == (64, 64, 3) and 0.02 < picture.mask.mean() / 255 < 0.6
        colours = picture.picture[picture.mask == 255].astype(int)
        near = np.abs(colours - np.array(one.main)).max(1) < 12  # its own coat, in every scene
        assert near.mean() > 0.15
    again = known.known_pictures(folder, "cat", "cat", templates)
    assert all(np.array_equal(a.picture, b.picture) for a, b in zip(found, again))


def test_a_concept_that_is_worn_is_the_one_whose_mask_is_given():
    (worn,) = known.in_scenes("sunglasses", "sunglasses", {"w": "A cat wearing {sunglasses}"})
    rows, columns = np.nonzero(worn.mask > 127)
    # glasses, not the cat
    assert 0.01 < (worn.mask > 127).mean() < 0.3 and np.ptp(columns) > np.ptp(rows)


def test_another_concept_of_the_same_name_is_shown_by_its_photographs(tmp_path):
    folder = photographs_of(tmp_path / "cat", "cat")
    other = np.asarray(Image.open(folder / "1.png")).copy()
    other[0, 0] ^= 255
    Image.fromarray(other).save(folder / "1.png")
    found = known.known_pictures(folder, "cat", "cat", {"s01": "A {cat} on the beach"})
    assert [one.name for one in found] == [str(n) for n in range(7)]
    assert {one.template for one in found} == {"A photo of a {cat}"}
    np.testing.assert_array_equal(found[1].picture, other)
    np.testing.assert_array_equal(found[3].mask, known.photographs("cat")[1][3])
    shutil.rmtree(folder / "masks")
    with pytest.raises(UserError, match="no masks"):
        known.known_pictures(folder, "cat", "cat", {})


# ---- tables ----


def cells(values):
    """{(concept, prompt): leakage} at one level."""
    return pd.DataFrame(
        [
            {
                "method": "ti",
                "point": "default",
                "concept": c,
                "prompt_id": p,
                "t": 250,
                "leakage": v,
                "area": 0.8,
            }
            for (c, p), v in values.items()
        ]
    )


def test_leakage_is_class_balanced_and_the_concept_is_the_unit():
    values = {
        ("cat", "a"): 0.40,
        ("cat", "b"): 0.42,
        ("cat", "c"): 0.44,
        ("dog", "a"): 0.46,
        ("pot", "a"): 0.44,
    }
    (row,) = leakage_of(cells(values), {"a", "b", "c"}).to_dict("records")
    means = [0.42, 0.46, 0.44]
    assert row["leakage"] == pytest.approx(np.mean(means))
    assert (row["n_concepts"], row["n_pictures"]) == (3, 5)
    # pictures of their own: nothing but the concepts' means counts
    (alone,) = leakage_of(cells(values), set()).to_dict("records")
    half = t_quantile(3) * np.std(means, ddof=1) / np.sqrt(3)
    assert (alone["leakage_lo"], alone["leakage_hi"]) == pytest.approx((0.44 - half, 0.44 + half))
    (two,) = leakage_of(cells({("cat", "a"): 0.1, ("dog", "a"): 0.9}), {"a"}).to_dict("records")
    # a share, whatever the interval of two concepts says
    assert (two["leakage_lo"], two["leakage_hi"]) == (0.0, 1.0)


def test_concepts_count_alike_whatever_pictures_they_have():
    frame = cells({("cat", "a"): 0.2, ("cat", "b"): 0.4, ("dog", "a"): 0.7})
    frame.loc[frame["concept"] == "dog", "area"] = 0.6
    cat, dog = (
        concepts_of(pd.concat([frame, frame.assign(method="super")]))
        .query("method == 'ti'")
        .to_dict("records")
    )
    assert (cat["leakage"], dog["leakage"], dog["area"]) == pytest.approx((0.3, 0.7, 0.6))
    for row in (cat, dog):
        assert (row["mean_leakage"], row["mean_area"]) == pytest.approx((0.5, 0.7))


def test_excess_is_paired_with_the_super_category_in_the_same_picture():
    values = {("cat", "a"): 0.2, ("cat", "b"): 0.9, ("dog", "a"): 0.6, ("dog", "b"): 0.5}
    less = {("cat", "a"): 0.1, ("cat", "b"): 0.3, ("dog", "a"): 0.15, ("dog", "b"): 0.33}
    plain = cells({key: value - less[key] for key, value in values.items()}).assign(method="super")
    ti, floor = leakage_of(pd.concat([cells(values), plain]), {"a", "b"}).to_dict("records")
    wanted = clustered(np.array([[0.1, 0.3], [0.15, 0.33]]))
    assert (ti["method"], floor["method"], floor["excess"]) == ("ti", "super", 0)
    assert (ti["excess"], ti["excess_lo"], ti["excess_hi"]) == pytest.approx(tuple(wanted))
    (alone,) = leakage_of(cells(values), {"a", "b"}).to_dict("records")
    assert np.isnan(alone["excess"])


def test_the_table_marks_whose_rates_are_a_guess():
    leaks = leakage_of(cells({("cat", "a"): 0.1}), {"a"})
    assert "| ti (untuned) |" in text_of(leaks, ["ti", "oft"])
    assert text_of(leaks, ["ti", "oft"]).splitlines()[-1].startswith("Untuned: the rates of ti are")
    assert "ntuned" not in text_of(leaks, ["oft"])


def test_smaller_is_the_mean_of_blocks():
    picture = np.arange(600 * 512 * 3, dtype=np.uint64).reshape(600, 512, 3) % 251
    small = smaller(picture.astype(np.uint8))
    assert small.shape == (300, 256, 3)
    assert small[3, 5, 1] == round(picture[6:8, 10:12, 1].mean())
    assert smaller(np.zeros((64, 64), np.uint8)).shape == (64, 64)


def test_parts_that_are_damaged_or_of_another_key_count_as_absent(tmp_path):
    store = Store(tmp_path)
    part = Part("ti", "default", "ti", "cat", "cat", "", (), "key")
    found = Found(np.ones((2, 3)), np.ones((2, 8, 8)))
    assert read_part(store, part) is None
    write_part(store, part, found)
    (file,) = attention_folder(tmp_path).rglob("*.npz")
    first = file.read_bytes()
    np.testing.assert_array_equal(read_part(store, part).maps, found.maps)
    write_part(store, part, found)
    assert file.read_bytes() == first
    assert read_part(store, Part("ti", "default", "ti", "cat", "cat", "", (), "other")) is None
    file.write_bytes(first[: len(first) // 2])
    assert read_part(store, part) is None


# ---- the command ----


@pytest.fixture
def finished(tmp_path):
    """A micro run of perfusion and super on the tiny backbone, whose concepts have masks."""
    return copy_of_reference(tmp_path / "run")


def test_the_command_measures_once_and_plot_draws_it(finished, capsys, monkeypatch):
    with pytest.raises(UserError, match=r"`perfbench attention .*run` measures them"):
        perfbench(["plot", "attention", str(finished)])
    assert perfbench(["attention", str(finished)]) == 0
    printed = capsys.readouterr().out
    assert "perfusion" in printed and "super" in printed and "t = 750" in printed
    found = Run(finished).attention()
    assert list(found.maps) == ["perfusion/local-b0.60-t0.15", "super/default"]
    assert found.pictures.shape == (2, 16, 16, 3) and found.concepts == ["cat", "teapot"]
    assert all(maps.shape == (2, 8, 8) and (maps > 0).all() for maps in found.maps.values())
    rows = found.cells
    assert len(rows) == 2 * 2 * 3 * 3  # columns, concepts, images, levels
    assert sorted(rows["t"].unique()) == list(LEVELS) and rows["leakage"].between(0, 1).all()
    # the kit's masks are a quarter of the picture
    assert rows["area"].to_numpy() == pytest.approx(0.75)
    mean = (
        rows.groupby(["method", "t", "concept"])["leakage"].mean().groupby(["method", "t"]).mean()
    )
    for row in found.leakage.to_dict("records"):
        assert row["leakage"] == pytest.approx(mean[row["method"], row["t"]], abs=2e-6)
    monkeypatch.setattr(measuring, "measure", lambda *_: pytest.fail("measured again"))
    before = {
        path: path.read_bytes() for path in attention_folder(finished).rglob("*") if path.is_file()
    }
    perfbench(["attention", str(finished)])
    assert capsys.readouterr().out == printed
    assert before == {
        path: path.read_bytes() for path in attention_folder(finished).rglob("*") if path.is_file()
    }
    assert perfbench(["plot", "attention", str(finished), "--out", str(finished / "a.png")]) == 0
    with pytest.raises(UserError, match="did you mean 'teapot'"):
        perfbench(["plot", "attention", str(finished), "--concepts", "teapott"])


def test_programs_are_told_whose_rates_are_a_guess(finished, capsys, monkeypatch):
    """As in table.csv: a last column, where the run has such a method."""
    assert perfbench(["attention", str(finished)]) == 0
    plain = Run(finished).attention().leakage
    assert "untuned" not in plain and "(untuned)" not in capsys.readouterr().out
    file = finished / "run.json"
    about = json.loads(file.read_text())
    about["methods"]["perfusion"]["untuned"] = True
    file.write_text(json.dumps(about))
    monkeypatch.setattr(measuring, "measure", lambda *_: pytest.fail("measured again"))
    assert perfbench(["attention", str(finished)]) == 0
    assert "| perfusion (untuned) |" in capsys.readouterr().out
    found = Run(finished).attention().leakage
    assert list(found) == [*plain, "untuned"]
    assert found["untuned"].tolist() == (found["method"] == "perfusion").tolist()
    assert perfbench(["plot", "attention", str(finished), "--out", str(finished / "a.png")]) == 0


def test_an_interrupted_measurement_goes_on(finished, monkeypatch):
    real, done = measuring.measured, []

    def interrupted(backbone, part, *more):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(part.concept)
        return real(backbone, part, *more)

    monkeypatch.setattr(measuring, "measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        perfbench(["attention", str(finished)])
    assert not (attention_folder(finished) / "leakage.csv").exists()
    monkeypatch.setattr(
        measuring, "measured", lambda *args: (done.append(args[1].concept), real(*args))[1]
    )
    perfbench(["attention", str(finished)])
    assert done == ["cat", "teapot", "cat", "teapot"]  # each part once


def test_mistakes(finished, monkeypatch):
    with pytest.raises(UserError, match="did you mean 'perfusion'"):
        perfbench(["attention", str(finished), "--methods", "perfusio"])
    about = (finished / "run.json").read_text()
    real = Run(finished).about["backbone"]["sha256"]
    (finished / "run.json").write_text(about.replace(real, "00" * 32))
    with pytest.raises(UserError, match="another one now"):
        perfbench(["attention", str(finished)])
    (finished / "run.json").write_text(about)
    shutil.rmtree(finished / "fits")
    with pytest.raises(UserError, match="no concept has a fit"):
        perfbench(["attention", str(finished)])


@pytest.mark.slow
def test_on_the_miniature_a_concept_is_drawn_in_its_prompts_scenes(tmp_path, capsys):
    """The real weights and fits of two steps, of methods that edit the U-Net in every way there
    is.
    """
    short = ["steps=2", "train_steps=2", "images=1", "prior_images=2", "validate_every=2"]
    sets = [word for setting in short for word in ("--set", setting)]
    words = [
        "--preset",
        "micro",
        "--methods",
        "perfusion,ti,cd,db,lora",
        "--concepts",
        "cat,sunglasses",
        *sets,
    ]
    assert (
        perfbench(
            [
                "run",
                *words,
                "--backbone",
                "miniature",
                "--out",
                str(tmp_path / "run"),
                "--threads",
                "1",
            ]
        )
        == 0
    )
    perfbench(["attention", str(tmp_path / "run")])
    found = Run(tmp_path / "run").attention()
    methods = ["perfusion", "db", "ti", "cd", "lora", "super"]
    assert [name.partition("/")[0] for name in found.maps] == methods
    assert found.texts[0].startswith("A cat*") and set(found.cells["prompt_id"]) <= set(
        Run(tmp_path / "run").plan["prompt_id"]
    )
    (image,) = {maps.shape[1:] for maps in found.maps.values()}
    assert found.pictures.shape[1:3] == (64, 64) and image[0] < 64
    assert (
        found.cells["leakage"].between(0, 1).all()
        and found.cells.groupby("method")["leakage"].std().min() > 0.001
    )
    one = found.cells.pivot(index=["concept", "prompt_id", "t"], columns="method", values="leakage")
    assert one.nunique(axis=1).min() == len(methods)  # every method's own weights were looked at


def test_the_kit_is_read_only():
    assert not attention_folder(shared() / "reference").exists()
