"""Tiny random pipelines of PixArt's and Sana's kinds: the real classes, T5's and Gemma's tokenizers
and text encoders, a projection behind them, masks; Sana with an instruction and flow matching.
"""

from inspect import signature
from typing import Any

import torch
from conftest import WORDS

LETTERS = "abcdefghijklmnopqrstuvwxyz'-.,:>()\n"
TEXT_WIDTH = 20  # of T5 and Gemma
WIDTH = 16  # behind the projection
SPACE = "▁"


def make_t5_tokenizer() -> Any:
    """Each of WORDS is one piece with the space before it; others fall into letters."""
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), (SPACE, -4.0)]
    pieces += [(letter, -5.0) for letter in LETTERS if letter != "\n"]
    pieces += [(SPACE + word, -1.0) for word in dict.fromkeys(WORDS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def make_gemma_tokenizer() -> Any:
    """The same, with the words of Sana's instruction, joined letter by letter from the space on, so
    that no two words disagree.
    """
    from diffusers import SanaPipeline
    from transformers import GemmaTokenizer

    told = signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default

    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", SPACE, *LETTERS, *LETTERS.upper()]
    vocab = dict.fromkeys(names)
    merges: dict[tuple[str, str], None] = {}
    for word in [*WORDS, *" ".join(told).split()]:
        whole = SPACE
        for letter in word:
            merges[whole, letter] = None
            whole += letter
            vocab[whole] = None
    return GemmaTokenizer(
        vocab={name: i for i, name in enumerate(vocab)}, merges=list(merges), add_bos_token=True
    )


def finished(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.text_encoder, pipe.transformer, pipe.vae):
        part.eval()
    return pipe


def make_pixart(
    seed: int = 0, kind: str = "PixArtSigmaPipeline", width: int = WIDTH, **changes: Any
) -> Any:
    """16x16 pictures, three cross-attentions with a bias, epsilon and a learned variance."""
    import diffusers
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(seed)
    tokenizer = make_t5_tokenizer()
    text = T5Config(
        vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=5, d_ff=32, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=width // 2, in_channels=4, out_channels=8,
        cross_attention_dim=width, caption_channels=TEXT_WIDTH, patch_size=2,
        **{"num_layers": 3, "sample_size": 8, "use_additional_conditions": False, **changes},
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16), norm_num_groups=8, sample_size=16, scaling_factor=0.13025,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02)
    return finished(
        getattr(diffusers, kind)(tokenizer, T5EncoderModel(text), vae, transformer, scheduler)
    )


def make_sana(seed: int = 0) -> Any:
    """32x32 pictures, three cross-attentions with a bias behind a norm, flow matching."""
    import diffusers
    from transformers import Gemma2Config, Gemma2Model

    torch.manual_seed(seed)
    tokenizer = make_gemma_tokenizer()
    text = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=32,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=10,
        pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=WIDTH // 2,
        num_layers=3, num_cross_attention_heads=2, cross_attention_head_dim=WIDTH // 2,
        cross_attention_dim=WIDTH, caption_channels=TEXT_WIDTH, sample_size=16,
    )  # fmt: skip
    with torch.no_grad():
        transformer.caption_norm.weight.normal_(mean=1.0, std=0.3)
    vae = diffusers.AutoencoderDC(
        latent_channels=4, attention_head_dim=2, scaling_factor=0.41407,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
        downsample_block_type="conv", upsample_block_type="interpolate",
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return finished(
        diffusers.SanaPipeline(tokenizer, Gemma2Model(text), vae, transformer, scheduler)
    )


MAKERS = {"pixart": make_pixart, "sana": make_sana}
