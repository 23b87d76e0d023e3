"""Masks for everybody: each trained method weighs its loss by them where it is asked to, and is
what it was where it is not.
"""

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from run_kit import content, run_here, shared
from safetensors.torch import save_file

from baselines import custom_diffusion, peft_adapters, sized_pictures
from benchmarks.planning import methods
from benchmarks.planning.config import resolve
from benchmarks.running.prepared import prepare_run
from benchmarks.store import run_json
from benchmarks.tables.table_text import masked_fits
from perfusion_core import training
from perfusion_core.errors import MissingMasks
from perfusion_core.subject import Subject
from perfusion_core.training import row_weights, squared_error

TRAINED = [name for name in methods.BUILT_IN if methods.said(name).trained]
OTHERS = [name for name in TRAINED if name != "perfusion"]  # which has masks as published


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


IMAGES = noise(3, 3, 16, 16) * 2 - 1
OBJECT = torch.zeros(3, 1, 16, 16)
OBJECT[:, :, 4:12, 2:8] = 1.0
SOFT = OBJECT * torch.tensor([1, 0.5, 0.25]).view(3, 1, 1, 1)
OFFSET = re.search(
    r"```python\n(.*?)```",
    (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8"),
    re.S,
)[1]


def subject(masks: torch.Tensor | None) -> Subject:
    return Subject("teddy", "toy", IMAGES, masks)


def fit(name, backbone, out, masks: torch.Tensor | None, wanted: bool):
    this = methods.load_method(name)
    prior = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    config = replace(this.MINIATURE, steps=3, batch=4, masks=wanted)
    return this.fit(
        backbone, subject(masks), config, out, seed=3, prior=prior if this.PRIOR else None
    )


@pytest.mark.parametrize("name", TRAINED)
def test_masks_change_what_is_trained_and_nothing_where_they_are_all_ones(
    name, tiny_backbone, tiny_c_inv, tmp_path
):
    fit(name, tiny_backbone, tmp_path / "without", None, False)
    fit(name, tiny_backbone, tmp_path / "unasked", OBJECT, False)
    fit(name, tiny_backbone, tmp_path / "ones", torch.ones_like(OBJECT), True)
    told = fit(name, tiny_backbone, tmp_path / "object", OBJECT, True)
    assert (
        content(tmp_path / "without") == content(tmp_path / "unasked") == content(tmp_path / "ones")
    )
    assert content(tmp_path / "object") != content(tmp_path / "without")
    assert all(np.isfinite(told["losses"]))


@pytest.mark.parametrize("name", TRAINED)
def test_a_concept_without_masks_is_refused(name, tiny_backbone, tiny_c_inv, tmp_path):
    with pytest.raises(MissingMasks, match="the concept 'teddy' has no masks; give it some, or"):
        fit(name, tiny_backbone, tmp_path, None, True)


class Handed(Exception):
    """Stops a fit where it would begin to train."""


@pytest.mark.parametrize("name", OTHERS)
def test_what_lies_outside_counts_nothing_and_class_images_count_all_over(
    name, tiny_backbone, tmp_path, monkeypatch
):
    """Of the batch as it is handed to the loop."""
    got = []

    def catch(backbone, recipe, groups, draw, *rest, **more):
        got.append(draw(torch.Generator().manual_seed(0)))
        raise Handed

    monkeypatch.setattr(training, "train", catch)
    monkeypatch.setattr(peft_adapters, "train", catch)  # which may have been read before
    with pytest.raises(Handed):
        fit(name, tiny_backbone, tmp_path, SOFT, True)
    [batch] = got
    mine = batch.mask[: len(batch.latents) - batch.prior]
    theirs = batch.mask[len(mine) :]
    assert batch.mask.shape == (len(batch.latents), 1, 8, 8) and len(theirs) == batch.prior
    assert (theirs == 1).all() and (mine[:, :, :2] == 0).all() and (mine[:, :, 2:6] > 0).any()
    # else class images beside it would weigh several times what the recipe says
    published = batch.latents.shape[1] if name == "classdiffusion" else 1.0  # a sum over channels
    torch.testing.assert_close(mine.mean((1, 2, 3)), torch.full((len(mine),), published * 1.0))


def test_the_mask_is_cut_and_scaled_with_its_picture(tiny_backbone, monkeypatch):
    """A picture that is its own mask: the two stay alike in every size."""
    seen, real = [], sized_pictures.vae_moments

    def remembered(backbone, pictures):
        seen.append(pictures)
        return real(backbone, pictures)

    monkeypatch.setattr(sized_pictures, "vae_moments", remembered)
    soft = noise(3, 1, 16, 16)
    who = Subject("teddy", "toy", soft.expand(-1, 3, -1, -1) * 2 - 1, soft)
    config = custom_diffusion.Config(masks=True)
    plain = sized_pictures.SizedPictures(tiny_backbone, replace(config, masks=False), who)
    masked = sized_pictures.SizedPictures(tiny_backbone, config, who)
    _, valid, before, _ = plain.draw(40, torch.Generator().manual_seed(5))
    _, mask, after, _ = masked.draw(40, torch.Generator().manual_seed(5))
    assert before == after and torch.equal(*seen), "masks change no picture and no word"
    shown = torch.nn.functional.avg_pool2d(seen[1][:, :1] / 2 + 0.5, 2)
    assert 0 < int((valid == 0).flatten(1).any(1).sum()) < 40, "some are smaller"
    for row in range(40):
        inside = valid[row] > 0
        ratio = (mask[row] / (valid[row] * shown[row]))[inside]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-4, atol=1e-5)
        assert (mask[row][~inside] == 0).all()


def test_a_mask_that_is_cut_away_is_drawn_again(tiny_backbone):
    """Of a small object in a corner many cuts show nothing; none of them counts all over."""
    corner = torch.zeros(3, 1, 16, 16)
    corner[:, :, 0, 0] = 1.0
    config = custom_diffusion.Config(masks=True, flip=False)
    pictures = sized_pictures.SizedPictures(tiny_backbone, config, subject(corner))
    _, mask, before, _ = pictures.draw(60, torch.Generator().manual_seed(5))
    share = (mask > 0).float().mean((1, 2, 3))
    assert "close up " in before and (share > 0).all() and share.max() < 0.25
    empty = sized_pictures.SizedPictures(tiny_backbone, config, subject(torch.zeros(3, 1, 16, 16)))
    _, mask, _, _ = empty.draw(6, torch.Generator().manual_seed(5))
    assert (mask > 0).flatten(1).any(1).all()  # as everywhere: an empty mask counts all over


def test_a_masked_batch_in_parts_has_the_loss_of_the_whole():
    """Class images beside it; by hand."""
    predicted, target = noise(6, 4, 8, 8), noise(6, 4, 8, 8).flip(0)
    mask = torch.cat([(noise(4, 1, 8, 8) > 0.5).float(), torch.ones(2, 1, 8, 8)])
    whole = training.weighted_loss(predicted, target, mask, 2, 0.5)
    error = squared_error(predicted, target, mask).flatten(1).mean(1)
    assert (row_weights(6, 2, 0.5) * error).sum().item() == pytest.approx(whole.item(), rel=1e-6)


# ---- keys, and what tables say ----


def chosen(**flags):
    kit = shared()
    flags = {
        "concepts": ("cat",),
        "prompts": ("1",),
        "backbone": str(kit / "tiny"),
        "suite": str(kit / "concepts"),
        "dtype": "float32",
        "device": "cpu",
        **flags,
    }
    sets = flags.pop("sets", ())
    return prepare_run(resolve(preset="micro", flags=flags, sets=sets))


@pytest.mark.parametrize("name", OTHERS)
def test_an_unmasked_fit_keeps_the_key_it_had(name):
    """A recipe without masks is keyed as if nobody had ever heard of them."""
    [field] = [one for one in fields(methods.load_method(name).Config) if one.name == "masks"]
    assert field.default is False and field.metadata["later"]
    usual, masked, none = (
        next(one for one in chosen(methods=(name,), **more).methods if one.name == name).config
        for more in (
            {},
            {"sets": (f"fit.{name}.masks=true",)},
            {"sets": (f"fit.{name}.masks=true",), "masks": "none"},
        )
    )
    assert "masks" not in usual and masked == {**usual, "masks": True} and none == usual


def test_without_masks_at_all_perfusion_still_says_so():
    [one] = [m for m in chosen(methods=("perfusion",), masks="none").methods if m.trained]
    assert one.config["masks"] is False


def test_the_table_says_who_was_trained_with_masks(tmp_path):
    out = tmp_path / "run"
    more = ("--methods", "perfusion,ti,lora", "--concepts", "cat", "--set", "fit.lora.masks=true")
    assert run_here(shared(), out, *more, "--set", "train_steps=2", "--set", "images=1") == 0
    text = (out / "table.md").read_text()
    assert "Trained with masks: lora, perfusion. Without: ti.\n" in text


def test_an_older_run_tells_nothing_and_a_run_of_one_kind_names_nobody():
    def told(**masks):
        return masked_fits({"methods": {name: {"masks": one} for name, one in masks.items()}})

    assert masked_fits({}) == masked_fits({"methods": {"ti": {"config": {}}}}) == ""
    assert told(ti=True, db=True) == "Trained with masks: every method.\n"
    assert told(ti=False) == "Trained without masks: every method.\n"
    assert told(ti="yes", db=[]) == ""  # a run of somebody else
    some = {"super": {}, "ti": {"masks": False}, "mine": {}}
    assert masked_fits({"methods": some}) == "Trained without masks: ti.\n"


def test_only_fits_that_are_made_here_and_know_masks_tell_of_them(tmp_path):
    """Not those of --trained, and no method of one's own without such an option."""
    own = tmp_path / "own.py"
    own.write_text(OFFSET)
    plain = chosen(methods=("ti", "offset"), method_files=(str(own),))
    assert {one.name: one.masks for one in plain.methods} == {
        "super": None, "ti": False, "offset": None
    }  # fmt: skip
    masked = chosen(methods=("ti",), sets=("fit.ti.masks=true",))
    assert {one.name: one.masks for one in masked.methods} == {"super": None, "ti": True}
    (tmp_path / "cat").mkdir()
    save_file({"<cat>": torch.ones(32)}, tmp_path / "cat" / "learned_embeds.safetensors")
    given = chosen(methods=("ti", "lora"), trained=(f"ti={tmp_path}",))
    assert {one.name: one.masks for one in given.methods} == {
        "super": None, "ti": None, "lora": False
    }  # fmt: skip
    told = run_json.about_run(
        {}, given.config, given.models, given.methods, argv=[], protocol={}, digests={}, words={},
        device="cpu",
    )["methods"]  # fmt: skip
    assert {name: one.get("masks") for name, one in told.items()} == {
        "super": None, "ti": None, "lora": False
    }  # fmt: skip
