"""The miniature's models, untrained: Stable Diffusion's parts and a CLIP scorer, each a hundred
times smaller.

Sizes are chosen so that all weights together stay under 30 MB in float16 and an image costs about a
tenth of a second on two cores. What miniature-xl has beside them stays under 16 MB.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from benchmarks.miniature.world.canvas import COLORS
from benchmarks.miniature.world.language import RARE
from benchmarks.miniature.world.picture import CLASSES

TEXT_LENGTH = 32
TEXT_WIDTH = 160
# of the second text encoder, which miniature-xl has; its pooled vector is as wide, as in XL
SECOND_WIDTH = 192
SECOND_PAD = "!"  # what XL's second tokenizer pads with
SIZE_WIDTH = 32  # of each of the six numbers that tell of a picture's size


def _scorer(width: int, text: int) -> dict[str, Any]:
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": width, "head_width": 32},
        "text_cfg": {
            "context_length": TEXT_LENGTH,
            "width": text,
            "heads": text // 32,
            "layers": 3,
        },
    }


# the second one is for tuning and step selection
SCORERS = {"scorer": _scorer(16, 96), "scorer2": _scorer(12, 64)}
# what a scorer does to a picture before it looks: pictures are 64 x 64 already
SCORER_PREPROCESS: dict[str, Any] = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "size": 64,
    "interpolation": "bicubic",
}


def make_tokenizer(captions: Iterable[str], folder: Path, merges: int = 700) -> CLIPTokenizer:
    """A byte-pair tokenizer of CLIP's kind whose words are the world's; any other text falls into
    bytes.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) * 2 + merges,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
        min_frequency=4,
    )
    # one piece each, whatever the captions hold
    whole = [word for word in (*CLASSES, *COLORS, *RARE) for _ in range(2000)]
    learner.train_from_iterator([*captions, *whole], trainer)
    pieces = json.loads(learner.to_str())["model"]["merges"]
    pairs = [tuple(p) if not isinstance(p, str) else tuple(p.split(" ")) for p in pieces]
    words = [*alphabet, *(c + "</w>" for c in alphabet), *(a + b for a, b in pairs)]
    # the end token comes last: CLIP models take the highest id for the end of the text
    vocab = {
        w: k for k, w in enumerate(dict.fromkeys([*words, "<|startoftext|>", "<|endoftext|>"]))
    }
    tokenizer = CLIPTokenizer(vocab=vocab, merges=cast(Any, pairs), model_max_length=TEXT_LENGTH)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(p) for p in pairs) + "\n"
    )
    return tokenizer


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(text_config(tokenizer, TEXT_WIDTH, layers=6))


def make_second_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """Wider than the first and not as deep, so that both cost the same."""
    return CLIPTextModelWithProjection(text_config(tokenizer, SECOND_WIDTH, layers=4))


def text_config(tokenizer: CLIPTokenizer, width: int, layers: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        max_position_embeddings=TEXT_LENGTH,
        hidden_act="quick_gelu",
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 128),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=64,
        scaling_factor=1.0,  # measured once trained
    )


def make_unet(**changed: Any) -> UNet2DConditionModel:
    """The miniature's, or one that differs in some parts of its configuration."""
    usual: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 1,
        "block_out_channels": (64, 96, 128),
        # attention where Stable Diffusion has it: everywhere but at the lowest resolution
        "down_block_types": ("CrossAttnDownBlock2D",) * 2 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 2,
        # the number of heads, whatever its name says; one where there are 256 places, since what
        # a softmax over them costs grows with the heads
        "attention_head_dim": (1, 4, 4),
        # linear layers around attention, as in Stable Diffusion 2: a tenth cheaper than
        # convolutions of 1 x 1, and the same numbers
        "use_linear_projection": True,
        "cross_attention_dim": TEXT_WIDTH,
        "norm_num_groups": 16,
    }
    return UNet2DConditionModel(**{**usual, **changed})


def make_joint_unet() -> UNet2DConditionModel:
    """miniature-xl's: it reads both text encoders side by side, the pooled text, and sizes."""
    return make_unet(
        cross_attention_dim=TEXT_WIDTH + SECOND_WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=SIZE_WIDTH,
        projection_class_embeddings_input_dim=SECOND_WIDTH + 6 * SIZE_WIDTH,
    )


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
        prediction_type="epsilon",
    )


def make_scorer(name: str, vocab_size: int) -> torch.nn.Module:
    """An open_clip model; its text side reads our tokenizer's ids."""
    from open_clip.model import CLIP

    config = SCORERS[name]
    text = {**config["text_cfg"], "vocab_size": vocab_size}
    return CLIP(embed_dim=config["embed_dim"], vision_cfg=dict(config["vision_cfg"]), text_cfg=text)
