"""PixArt's and Sana's true configurations on the meta device: their projections, the size of C and
of a concept's file.
"""

import diffusers
import pytest
import torch
from safetensors import safe_open
from transformers import Gemma2Config, Gemma2Model, T5Config, T5EncoderModel

from perfusion_core import Concept
from perfusion_core.backbone import cross_attentions
from perfusion_core.text_encoders import text_encoders

# google/t5-v1_1-xxl's encoder, google/gemma-2-2b
T5 = {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24}
T5 |= {"num_heads": 64, "feed_forward_proj": "gated-gelu"}
GEMMA = {"vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216, "head_dim": 256}
GEMMA |= {"num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4}
SANA_06 = {"num_attention_heads": 36, "num_layers": 28, "num_cross_attention_heads": 16}
SANA_06 |= {"cross_attention_head_dim": 72, "cross_attention_dim": 1152}
# millions of weights, width, layers, sum of o*_V, C in MB of float32, file in kB: docs/backbones.md
TRUE = {
    "PixArt": ({}, 611, 1152, 28, 32_256, 5.3, 78),
    "Sana 0.6B": (SANA_06, 592, 1152, 28, 32_256, 5.3, 74),
    "Sana 1.6B": ({}, 1604, 2240, 20, 44_800, 20.1, 102),
    "Sana 4.8B": ({"num_layers": 60}, 4_721, 2240, 60, 134_400, 20.1, 283),
}


def make_true(name, changes):
    """Text encoder and transformer, without numbers in their weights."""
    with torch.device("meta"):
        if name == "PixArt":
            text = T5EncoderModel(T5Config(**T5))
            transformer = diffusers.PixArtTransformer2DModel(
                caption_channels=4096, use_additional_conditions=False
            )
            kind = diffusers.PixArtSigmaPipeline
        else:
            text = Gemma2Model(Gemma2Config(**GEMMA))
            transformer = diffusers.SanaTransformer2DModel(**changes)
            kind = diffusers.SanaPipeline
    return kind(None, text, None, transformer, None)


@pytest.mark.parametrize("name", TRUE)
def test_projections_c_and_file(name, tmp_path):
    changes, millions, width, many, outputs, c_size, kilobytes = TRUE[name]
    pipe = make_true(name, changes)
    layers = cross_attentions(pipe.transformer)
    count = sum(weight.numel() for weight in pipe.transformer.parameters())
    print(f"{name}: {count / 1e6:.0f} million weights in the transformer")
    assert round(count / 1e6) == millions
    sizes = [layer.to_v.out_features for layer in layers.values()]
    assert (len(sizes), sum(sizes)) == (many, outputs)
    for layer in layers.values():
        for side in (layer.to_k, layer.to_v):
            assert side.in_features == width and side.bias is not None
    side, word = text_encoders(pipe), 4096 if name == "PixArt" else 2304
    words = "32128x4096x24:caption_projection" if word == 4096 else "256000x2304x26:caption_norm"
    assert (side.width, side.widths) == (width, [word])
    assert side.shape() == f"{words}[{width}]"
    assert width**2 * 4 / 1e6 == pytest.approx(c_size, abs=0.05)
    concept = Concept(
        placeholder="kitty",
        super_category="cat",
        i_star=torch.randn(width),
        embedding=torch.randn(word),
        o_v=tuple(torch.randn(size) for size in sizes),
        o_k=None,
        super_encoding=torch.randn(width),
        text_digest="0" * 16,
        text_shape=side.shape(),
        backbone=f"random {'0' * 16}",
        names=tuple(layers),
    )
    path = tmp_path / "kitty.safetensors"
    concept.save(path)
    with safe_open(path, "pt") as file:
        numbers = {name: file.get_tensor(name).numel() for name in file.keys()}  # noqa: SIM118
    assert numbers == {"i_star": width, "embedding": word, "o_v": outputs, "super_encoding": width}
    print(f"{name}: a file of {path.stat().st_size / 1000:.1f} kB")
    assert round(path.stat().st_size / 1000) == kilobytes
    assert Concept.load(path).names == tuple(layers)
