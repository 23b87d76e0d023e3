"""Shared by the tests: a tiny pipeline of Stable Diffusion's kind with random weights, saved in
diffusers layout.
"""

import os
from contextlib import contextmanager

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

WORDS = """
a an the of in on at is and with to photo photograph image good shown painting watercolor oil \
beach snow jungle
moon garden kitchen stage water road lamp ball house front next floating cat dog toy teddy teapot \
chair pot
sculpture puppy tortoise sunglasses sks ktn pll ucd sailing inside lake sitting by fire reading \
book wearing small
very far away zoomed close up red blue gold
""".split()  # noqa: SIM905


def make_tokenizer(length: int = 32):
    """A byte-level CLIP tokenizer in which each of WORDS is one token and other words fall into
    letters.
    """
    from transformers import CLIPTokenizer

    letters = [chr(c) for c in range(ord("!"), ord("~") + 1)]
    vocab = dict.fromkeys([*letters, *(f"{letter}</w>" for letter in letters)])
    merges: dict[tuple[str, str], None] = {}
    # joined from the end, so that no pair occurs twice in a word and no two words disagree
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges[parts[-2], parts[-1]] = None
            parts[-2:] = ["".join(parts[-2:])]
            vocab[parts[-1]] = None
    names = [*vocab, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={name: i for i, name in enumerate(names)},
        merges=list(merges),
        model_max_length=length,
    )


def text_config(tokenizer, width: int, layers: int, length: int, **more):
    """Of a text encoder, small."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **more,
    )


def make_subject():
    """Three pictures of noise with one mask."""
    import torch

    from perfusion_core.subject import Subject

    rng = torch.Generator().manual_seed(5)
    images = torch.rand(3, 3, 16, 16, generator=rng) * 2 - 1
    masks = torch.zeros(3, 1, 16, 16)
    masks[:, :, 4:12, 2:9] = 0.5
    return Subject("teddy", "toy", images, masks)


def make_pipe(seed: int = 0, width: int = 32, layers: int = 2, length: int = 32):
    """Random weights, the real classes: text width 32, 16x16 pictures, 8x8x4 latents, 4
    cross-attentions or so.
    """
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel

    torch.manual_seed(seed)
    tokenizer = make_tokenizer(length)
    text = text_config(tokenizer, width, layers, length)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        layers_per_block=1,
        cross_attention_dim=width,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        sample_size=16,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    pipe = StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory):
    """Nothing is taken from the user's cache or put there; of units nothing at all, where a test
    does not give the cache a size.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERFBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("PERFBENCH_CACHE_SIZE", "0")
        yield


@pytest.fixture(scope="session")
def tiny_pipe_dir(tmp_path_factory):
    """A tiny random backbone in diffusers layout; read only, like every session fixture."""
    folder = tmp_path_factory.mktemp("backbones") / "tiny"
    make_pipe().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_backbone(tiny_pipe_dir):
    """The same, opened on the CPU in float32. A test that changes it must put it back."""
    from perfusion_core.backbone import Backbone

    return Backbone.open(tiny_pipe_dir, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def tiny_c_inv(tiny_backbone):
    """C^-1 of the tiny text encoder over random captions, estimated by the ordinary code, stored
    beside it.
    """
    import random

    from perfusion_core.covariance import FILE, estimate

    rng = random.Random(0)
    captions = [" ".join(rng.choices(WORDS, k=rng.randint(3, 12))) for _ in range(200)]
    estimate(tiny_backbone, captions, tiny_backbone.place / FILE, source="random words")
    return tiny_backbone.c_inv


@pytest.fixture(scope="session")
def clipseg(tmp_path_factory):
    """A tiny random CLIPSeg of the real classes."""
    import torch
    from transformers import (
        CLIPSegConfig,
        CLIPSegForImageSegmentation,
        CLIPSegProcessor,
        ViTImageProcessor,
    )

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    config = CLIPSegConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=16,
        reduce_dim=8,
        extract_layers=[1, 2, 3],
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    folder = tmp_path_factory.mktemp("clipseg")
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    images = ViTImageProcessor(
        size={"height": 32, "width": 32},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    CLIPSegProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def make_concept(
    backbone, name: str = "teddy", super_category: str = "toy", seed: int = 0, **changes
):
    """A concept as training might leave it: near to its super-category, with random o_star_V."""
    from dataclasses import replace

    import torch

    from perfusion_core.backbone import cross_attentions
    from perfusion_core.concept import Concept
    from perfusion_core.prompts import super_encoding, super_token
    from perfusion_core.weight_digests import text_shape

    rng = torch.Generator().manual_seed(seed)
    encoding = super_encoding(backbone.text_encoder, backbone.tokenizer, super_category)
    row = (
        backbone.text_encoder.get_input_embeddings()
        .weight[super_token(backbone.tokenizer, super_category)]
        .detach()
    )
    layers = cross_attentions(backbone.unet)
    sizes = [layer.to_v.out_features for layer in layers.values()]
    concept = Concept(
        placeholder=name,
        super_category=super_category,
        i_star=encoding + 0.1 * torch.randn(encoding.shape, generator=rng),
        embedding=row + 0.01 * torch.randn(row.shape, generator=rng),
        o_v=tuple(torch.randn(size, generator=rng) for size in sizes),
        o_k=None,
        super_encoding=encoding,
        text_digest=backbone.text_digest,
        text_shape=text_shape(backbone.text_encoder),
        backbone=f"{backbone.name} {backbone.digest}",
        names=tuple(layers),
    )
    return replace(concept, **changes)


@contextmanager
def stock_attention(unet, see):
    """diffusers' own processor in every layer, telling `see(layer, whether it is of the text,
    probabilities)`.
    """
    from diffusers.models.attention_processor import AttnProcessor

    class Spy(AttnProcessor):
        def __call__(self, attn, hidden_states, encoder_hidden_states=None, **more):
            real = attn.get_attention_scores

            def scores(*args):
                probs = real(*args)
                see(attn, encoder_hidden_states is not None, probs)
                return probs

            attn.get_attention_scores = scores
            try:
                return super().__call__(attn, hidden_states, encoder_hidden_states, **more)
            finally:
                del attn.get_attention_scores

    kept = unet.attn_processors
    unet.set_attn_processor(Spy())
    try:
        yield
    finally:
        unet.set_attn_processor(kept)
