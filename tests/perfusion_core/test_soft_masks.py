"""CLIPSeg masks, with a tiny random CLIPSeg of the real classes."""

import numpy as np
import pytest
import torch
from conftest import make_tokenizer
from PIL import Image

from perfusion_core.errors import UserError
from perfusion_core.masks import open_clipseg, soft_masks


def pictures():
    rng = np.random.default_rng(0)
    sizes = [(32, 32), (40, 64), (64, 48)]
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def test_masks_are_soft_and_of_each_pictures_own_size(clipseg):
    model, processor = open_clipseg(clipseg)
    masks = soft_masks(model, processor, pictures(), "cat")
    assert [mask.shape for mask in masks] == [(32, 32), (40, 64), (64, 48)]
    assert all(mask.dtype == np.float32 and 0 < mask.min() < mask.max() < 1 for mask in masks)


def test_against_the_models_own_logits(clipseg):
    """Preprocessed by hand: /255, ImageNet's mean and deviation; no batch, no processor."""
    model, processor = open_clipseg(clipseg)
    picture = pictures()[0]
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    pixels = (pixels - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(1, 3, 1, 1)
    ids = make_tokenizer()("cat", return_tensors="pt").input_ids
    logits = model(pixel_values=pixels, input_ids=ids).logits.reshape(32, 32)
    ours = soft_masks(model, processor, [picture], "cat")[0]
    torch.testing.assert_close(torch.from_numpy(ours), logits.sigmoid(), rtol=1e-4, atol=1e-5)


def test_batches_do_not_matter_and_the_word_does(clipseg):
    model, processor = open_clipseg(clipseg)
    together, alone = (
        soft_masks(model, processor, pictures(), "cat"),
        soft_masks(model, processor, pictures(), "cat", chunk=1),
    )
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    other = soft_masks(model, processor, pictures(), "teapot")
    assert all(np.abs(a - b).max() > 1e-4 for a, b in zip(together, other, strict=True))


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot open CLIPSeg"):
        open_clipseg(tmp_path / "nowhere")
