"""The sampler: against the stock pipeline, determinism, one projection a prompt, attention maps."""

import numpy as np
import pytest
import torch
from conftest import make_concept, stock_attention

from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.editing import load_concepts
from perfusion_core.sampling import AttentionMaps, as_float, noise, sample

TEXTS = ["a cat on the beach", "a dog on the moon", "a teapot"]


def stock(backbone, text, seeds, steps, guidance):
    """The pipeline's own call with the same scheduler and starting noise."""
    kept, backbone.pipe.scheduler = backbone.pipe.scheduler, backbone.scheduler()
    try:
        latents = noise(backbone, seeds)
        call = {"num_inference_steps": steps, "guidance_scale": guidance, "output_type": "np"}
        images = backbone.pipe(
            text, num_images_per_prompt=len(seeds), latents=latents, **call
        ).images
    finally:
        backbone.pipe.scheduler = kept
    return (images * 255).round().astype(np.uint8)


@pytest.mark.parametrize("guidance", [6.0, 1.0])
def test_is_what_the_stock_pipeline_draws(tiny_backbone, guidance):
    ours = sample(tiny_backbone, "a cat on the beach", [3, 4], steps=10, guidance=guidance)
    theirs = stock(tiny_backbone, "a cat on the beach", [3, 4], 10, guidance)
    assert ours.dtype == np.uint8 and ours.shape == (2, 16, 16, 3)
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert np.abs(ours[0].astype(int) - ours[1]).mean() > 5  # the seeds matter


def test_fifty_steps_go_from_981_to_1_as_ddim_has_them(tiny_backbone):
    """Section 2 of the protocol, against the formula; the last step ends at the first alpha, not at
    1.
    """
    seen, last, vae = [], [], tiny_backbone.vae
    handles = [
        tiny_backbone.unet.register_forward_hook(
            lambda _, given, out: seen.append((*given, out.sample))
        ),
        vae.post_quant_conv.register_forward_pre_hook(lambda _, given: last.append(given[0])),
    ]
    sample(tiny_backbone, "a cat on the beach", [3])  # by default 50 steps, guidance 6
    for handle in handles:
        handle.remove()
    assert [int(t) for _, t, _ in seen] == list(range(981, 0, -20))
    alphas = torch.cumprod(
        1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0
    )
    x = noise(tiny_backbone, [3]).double()
    for given, t, (plain, told) in seen:
        torch.testing.assert_close(given.double(), torch.cat([x, x]), rtol=1e-3, atol=1e-4)
        eps = (plain + 6 * (told - plain)).double()
        clean = (given[:1] - (1 - alphas[t]).sqrt() * eps) / alphas[t].sqrt()
        after = alphas[max(t - 20, 0)]
        x = after.sqrt() * clean + (1 - after).sqrt() * eps
    torch.testing.assert_close(
        last[0].double() * vae.config.scaling_factor, x, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("lock", ["local", "global"])
def test_with_concepts_too(tiny_backbone, tiny_c_inv, lock):
    both = {
        "teddy": make_concept(tiny_backbone),
        "brew": make_concept(tiny_backbone, "brew", "teapot", 3),
    }
    with load_concepts(tiny_backbone.pipe, both, lock, bias=0.4):
        ours = sample(tiny_backbone, "A {teddy} in a {brew}", [3, 4], steps=5)
        theirs = stock(tiny_backbone, "A {teddy} in a {brew}", [3, 4], 5, 6.0)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_a_cell_has_the_same_bytes_whatever_ran_before(tiny_backbone):
    first = sample(tiny_backbone, TEXTS[0], [1, 2, 3], steps=4)
    sample(tiny_backbone, TEXTS[1], [7], steps=3)
    torch.manual_seed(99)
    assert np.array_equal(first, sample(tiny_backbone, TEXTS[0], [1, 2, 3], steps=4))


def test_batches_and_threads_move_float32_by_two_levels_at_most(tiny_backbone):
    together = sample(tiny_backbone, TEXTS, [1, 2, 3], steps=6)
    for n, text in enumerate(TEXTS):
        alone = sample(tiny_backbone, text, [n + 1], steps=6)
        assert np.abs(alone[0].astype(int) - together[n]).max() <= 2
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if threads == 1 else 1)
    try:
        other = sample(tiny_backbone, TEXTS, [1, 2, 3], steps=6)
    finally:
        torch.set_num_threads(threads)
    assert np.abs(other.astype(int) - together).max() <= 2


def test_bfloat16_stays_near_across_batch_sizes(tiny_pipe_dir):
    backbone = Backbone.open(tiny_pipe_dir, device="cpu", dtype="bfloat16")
    together = sample(backbone, TEXTS, [1, 2, 3], steps=6)
    alone = np.concatenate(
        [sample(backbone, text, [n + 1], steps=6) for n, text in enumerate(TEXTS)]
    )
    assert np.abs(alone.astype(int) - together).mean() <= 1


def test_text_is_encoded_and_projected_once_a_prompt(tiny_backbone, monkeypatch):
    seen, texts = {}, []
    original = tiny_backbone.pipe.encode_prompt
    monkeypatch.setattr(
        tiny_backbone.pipe,
        "encode_prompt",
        lambda text, *a: (texts.append(text), original(text, *a))[1],
    )
    handles = [
        getattr(layer, side).register_forward_hook(
            lambda m, i, o: seen.update({m: [*seen.get(m, []), len(o)]})
        )
        for layer in cross_attentions(tiny_backbone.unet).values()
        for side in ("to_k", "to_v")
    ]
    before = list(tiny_backbone.unet.named_modules())
    sample(tiny_backbone, ["a cat", "a dog", "a cat", "a cat"], [1, 2, 3, 4], steps=8)
    for handle in handles:
        handle.remove()
    assert sorted(texts) == ["", "a cat", "a dog"]  # both branches of guidance
    assert len(seen) == 8 and all(rows == [1, 1, 1] for rows in seen.values())
    assert list(tiny_backbone.unet.named_modules()) == before


def by_hand(backbone, text, seed, steps, guidance):
    """Attention probabilities of the stock attention processors, layer by layer and step by
    step.
    """
    total, count = 0, 0

    def see(attn, of_text, probs):
        nonlocal total, count
        if of_text:
            told = probs[-attn.heads :].mean(0).T  # the conditional image: [M, positions]
            square = told.reshape(1, len(told), int(told.shape[1] ** 0.5), -1)
            total = total + torch.nn.functional.interpolate(square, (8, 8), mode="bilinear")
            count += 1

    with stock_attention(backbone.unet, see):
        stock(backbone, text, [seed], steps, guidance)
    return total / count


def test_attention_maps(tiny_backbone):
    maps = AttentionMaps()
    plain = sample(tiny_backbone, "a cat on the beach", [3, 4], steps=4)
    watched = sample(tiny_backbone, "a cat on the beach", [3, 4], steps=4, attention=maps)
    assert np.array_equal(plain, watched)
    assert maps.maps.shape == (2, 32, 8, 8)
    torch.testing.assert_close(maps.maps.sum(1), torch.ones(2, 8, 8))
    torch.testing.assert_close(
        maps.maps[1:], by_hand(tiny_backbone, "a cat on the beach", 4, 4, 6.0), rtol=1e-3, atol=1e-5
    )
    assert not any(
        layer.to_q._forward_hooks for layer in cross_attentions(tiny_backbone.unet).values()
    )


def test_an_exception_leaves_the_backbone_as_it_was(tiny_backbone, monkeypatch):
    before = list(tiny_backbone.unet.named_modules())
    monkeypatch.setattr(
        tiny_backbone.unet,
        "forward",
        lambda *a, **k: (_ for _ in ()).throw(RuntimeError("no memory")),
    )
    with pytest.raises(RuntimeError, match="no memory"):
        sample(tiny_backbone, "a cat", [1], steps=2)
    assert list(tiny_backbone.unet.named_modules()) == before


def test_noise_is_each_images_own(tiny_backbone):
    assert torch.equal(noise(tiny_backbone, [5, 6])[1], noise(tiny_backbone, [6])[0])
    assert noise(tiny_backbone, [2**63 - 1]).shape == (1, 4, 8, 8)


def test_pixels_there_and_back():
    images = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    back = ((as_float(images) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(images, back)
