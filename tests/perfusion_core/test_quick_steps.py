"""What a CPU computes in another form while it trains, attention and norms: the same numbers."""

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch.nn.functional import group_norm

from perfusion_core.backbone import LaidOutNorm, channels_last, cross_attentions
from perfusion_core.plain_attention import Plain, plain_layers, plainly

CPU = torch.device("cpu")


@pytest.fixture
def unet(tiny_backbone):
    return tiny_backbone.unet


def step(unet, **more):
    """The prediction, and its gradient back to the text."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 8, 8, generator=rng)
    words = torch.randn(3, 7, 32, generator=rng).requires_grad_()
    out = unet(x, torch.tensor([1, 500, 900]), encoder_hidden_states=words, **more).sample
    out.square().mean().backward()
    return out.detach(), words.grad


def test_plain_attention_gives_the_usual_numbers_and_goes_again(unet):
    before = dict(unet.attn_processors)
    wanted = step(unet)
    layers = plain_layers(unet, CPU)
    assert len(layers) == 2 * len(cross_attentions(unet)) == len(before)
    with plainly(layers):
        assert {type(processor) for processor in unet.attn_processors.values()} == {Plain}
        found = step(unet)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    assert all(unet.attn_processors[name] is usual for name, usual in before.items())


def test_a_mask_over_the_text_is_left_to_the_usual_attention(unet):
    mask = torch.ones(3, 7)
    mask[:, 4:] = 0
    wanted, everything = step(unet, encoder_attention_mask=mask), step(unet)
    with plainly(plain_layers(unet, CPU)):
        found = step(unet, encoder_attention_mask=mask)
    for a, b, other in zip(found, wanted, everything, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
        assert not torch.allclose(a, other, rtol=1e-2)


def test_only_usual_attention_of_small_unets_on_the_cpu_is_plain(unet):
    class Mine(AttnProcessor2_0):
        """Somebody's own."""

    layers = plain_layers(unet, CPU)
    first, second, *rest = layers
    kept = first.processor, second.processor
    try:
        first.processor, second.processor = Mine(), AttnProcessor()
        assert plain_layers(unet, CPU) == rest
    finally:
        first.processor, second.processor = kept
    assert plain_layers(unet, torch.device("cuda")) == []
    size = unet.config.sample_size
    try:
        unet.register_to_config(sample_size=64)
        assert plain_layers(unet, CPU) == []
    finally:
        unet.register_to_config(sample_size=size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_give_the_same_in_pictures_and_in_training(dtype):
    rng = torch.Generator().manual_seed(0)
    norm = LaidOutNorm(4, 16)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(16, generator=rng))
    norm.requires_grad_(False).to(dtype)
    x = channels_last(torch.randn(3, 16, 8, 8, generator=rng).to(dtype))
    exact = group_norm(x.double(), 4, norm.weight.double(), norm.bias.double(), norm.eps)
    training = norm(x.requires_grad_())
    with torch.no_grad():
        drawing = norm(x)
    for found in (training, drawing):
        assert found.dtype == dtype and found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(
            found.double(), exact, rtol=2e-2, atol=2e-2 if dtype != torch.float32 else 1e-5
        )
    training.square().sum().backward()
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


def test_every_norm_of_an_opened_backbone_is_laid_out(tiny_backbone):
    for network in (tiny_backbone.unet, tiny_backbone.vae):
        norms = [m for m in network.modules() if isinstance(m, torch.nn.GroupNorm)]
        assert norms and all(type(norm) is LaidOutNorm for norm in norms)
