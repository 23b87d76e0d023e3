"""Where Eq. 3 applies: what attention reads of a text, over layers and steps, in random models of
each family; and the one sentence for the families where it does not, or not yet.

`python -m pytest -rP tests/perfusion_core/test_families.py -k reads` prints docs/backbones.md's
numbers.
"""

import re

import diffusers
import pytest
import torch
from conftest import make_pipe
from diffusers.models.embeddings import get_2d_rotary_pos_embed
from fake_hub import Hub, asked_of
from xl_kit import make_xl

from perfusion_core import Backbone, UserError, load_concepts
from perfusion_core.families import DENOISERS

CALL = """
import sys
from perfusion_core.errors import UserError
from perfusion_core.hub import fetch_checkpoint
try:
    fetch_checkpoint(sys.argv[1])
except UserError as error:
    sys.exit(str(error))
"""
TOKENS = 12
STEPS = (981, 741, 501, 261, 21)
EVERY = slice(None)


def rand(*shape):
    return torch.randn(*shape)


def sd3():
    model = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, out_channels=4, num_layers=4,
        attention_head_dim=8, num_attention_heads=4, caption_projection_dim=32,
        joint_attention_dim=32, pooled_projection_dim=64,
    )  # fmt: skip
    x, text, pooled = rand(1, 4, 8, 8), rand(1, TOKENS, 32), rand(1, 64)
    return model, lambda t: model(x, text, pooled, torch.tensor([t])), r"add_k_proj", EVERY


def flux():
    model = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=4, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    x, text, pooled = rand(1, 16, 4), rand(1, TOKENS, 32), rand(1, 32)
    places = {"img_ids": torch.zeros(16, 3), "txt_ids": torch.zeros(TOKENS, 3)}

    def forward(t):
        model(x, text, pooled, torch.tensor([t / 1000]), **places)

    return model, forward, r"add_k_proj", EVERY


def flux2():
    model = diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=4, num_layers=4, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )  # fmt: skip
    x, text = rand(1, 16, 4), rand(1, TOKENS, 32)
    places = {"img_ids": torch.zeros(16, 4), "txt_ids": torch.zeros(TOKENS, 4)}

    def forward(t):
        model(x, text, torch.tensor([t / 1000]), **places)

    return model, forward, r"add_k_proj", EVERY


def qwen_image():
    model = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=4, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    x, text, mask = rand(1, 16, 16), rand(1, TOKENS, 16), torch.ones(1, TOKENS).long()

    def forward(t):
        model(x, text, mask, torch.tensor([t / 1000]), img_shapes=[[(1, 4, 4)]])

    return model, forward, r"add_k_proj", EVERY


def z_image():
    model = diffusers.ZImageTransformer2DModel(
        in_channels=16, dim=16, n_layers=4, n_refiner_layers=1, n_heads=1, n_kv_heads=1,
        cap_feat_dim=16, axes_dims=[8, 4, 4], axes_lens=[256, 32, 32],
    )  # fmt: skip
    for name, weight in model.named_parameters():
        if "pad_token" in name:  # of no numbers yet
            torch.nn.init.normal_(weight)
    x, text = [rand(16, 1, 8, 8)], [rand(32, 16)]
    read = r"^layers\.\d+\.attention\.to_k"  # the text stands behind the image
    return model, lambda t: model(x, torch.tensor([t / 1000]), text), read, slice(-32, None)


def lumina_2():
    model = diffusers.Lumina2Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, hidden_size=24, num_layers=4,
        num_refiner_layers=1, num_attention_heads=3, num_kv_heads=1, multiple_of=2,
        axes_dim_rope=(4, 2, 2), axes_lens=(128, 128, 128), cap_feat_dim=32,
    )  # fmt: skip
    x, text, mask = rand(1, 4, 16, 16), rand(1, TOKENS, 32), torch.ones(1, TOKENS).bool()
    read = r"^layers\.\d+\.attn\.to_k"  # the text stands before the image
    return model, lambda t: model(x, torch.tensor([t / 1000]), text, mask), read, slice(TOKENS)


def sdxl():
    model = make_xl().unet
    x, text = rand(1, 4, 8, 8), rand(1, TOKENS, 64)
    beside = {"text_embeds": rand(1, 16), "time_ids": torch.full((1, 6), 16.0)}
    return model, lambda t: model(x, t, text, added_cond_kwargs=beside), r"attn2\.to_k", EVERY


def kolors():
    model = diffusers.UNet2DConditionModel.from_config(
        make_xl().unet.config, encoder_hid_dim=48, encoder_hid_dim_type="text_proj"
    )
    x, text = rand(1, 4, 8, 8), rand(1, TOKENS, 48)
    beside = {"text_embeds": rand(1, 16), "time_ids": torch.full((1, 6), 16.0)}
    return model, lambda t: model(x, t, text, added_cond_kwargs=beside), r"attn2\.to_k", EVERY


def pixart():
    model = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=4,
        cross_attention_dim=16, caption_channels=24, sample_size=8,
        use_additional_conditions=False,
    )  # fmt: skip
    x, text = rand(1, 4, 8, 8), rand(1, TOKENS, 24)
    sizes = {"resolution": None, "aspect_ratio": None}
    return model, lambda t: model(x, text, torch.tensor([t]), sizes), r"attn2\.to_k", EVERY


def sana():
    model = diffusers.SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=4,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16,
        caption_channels=24, sample_size=8,
    )  # fmt: skip
    x, text = rand(1, 4, 8, 8), rand(1, TOKENS, 24)
    return model, lambda t: model(x, text, torch.tensor([t])), r"attn2\.to_k", EVERY


def hunyuan_dit():
    model = diffusers.HunyuanDiT2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, patch_size=2, sample_size=8,
        hidden_size=16, num_layers=4, cross_attention_dim=24, cross_attention_dim_t5=24,
        pooled_projection_dim=16, text_len=TOKENS, text_len_t5=8,
        use_style_cond_and_image_meta_size=False,
    )  # fmt: skip
    turned = get_2d_rotary_pos_embed(8, ((0, 0), (4, 4)), (4, 4), output_type="pt")
    x, bert, t5 = rand(1, 4, 8, 8), rand(1, TOKENS, 24), rand(1, 8, 24)
    masks = torch.ones(1, TOKENS).long(), torch.ones(1, 8).long()

    def forward(t):
        t = torch.tensor([float(t)])
        model(x, t, bert, masks[0], t5, masks[1], image_rotary_emb=turned)

    return model, forward, r"attn2\.to_k", EVERY


@torch.no_grad()
def variation(family):
    """How far what attention reads of one text is from its mean over layers, and over steps, as a
    part of that mean's length; each the mean over the other.
    """
    torch.manual_seed(0)
    model, forward, pattern, part = family()
    read: list[torch.Tensor] = []
    layers = [m for name, m in model.eval().named_modules() if re.search(f"{pattern}$", name)]
    for layer in layers:
        layer.register_forward_pre_hook(
            lambda _, given: read.append(given[0].flatten(0, -2)[part].double())
        )
    for t in STEPS:
        forward(t)
    e = torch.stack(read).unflatten(0, (len(STEPS), len(layers)))  # [steps, layers, M, d]
    found = []
    for dim in (1, 0):
        mean = e.mean(dim, keepdim=True)
        spread = (e - mean).square().sum((-1, -2)).mean(dim).sqrt()
        found.append(float((spread / mean.squeeze(dim).square().sum((-1, -2)).sqrt()).mean()))
    return tuple(found)


@pytest.mark.parametrize("family", [sdxl, kolors, pixart, sana, hunyuan_dit])
def test_where_it_applies_every_layer_and_step_reads_the_same_text(family):
    assert variation(family) == (0.0, 0.0)
    print(f"{family.__name__}: layers 0, steps 0")


@pytest.mark.parametrize("family", [sd3, flux, flux2, qwen_image, z_image, lumina_2])
def test_where_it_does_not_apply_each_layer_reads_another_text(family):
    over_layers, over_steps = variation(family)
    print(f"{family.__name__}: layers {over_layers:.3f}, steps {over_steps:.3f}")
    assert min(over_layers, over_steps) > 1e-3


ANSWERS = {
    sd3: (diffusers.StableDiffusion3Pipeline, "Stable Diffusion 3 has none: its text stream"),
    flux: (diffusers.FluxPipeline, "FLUX.1 has none: its text stream"),
    flux2: (diffusers.Flux2Pipeline, "FLUX.2 has none: its text stream"),
    qwen_image: (diffusers.QwenImagePipeline, "Qwen-Image has none: its text stream"),
    z_image: (diffusers.ZImagePipeline, "Z-Image has none: text and image are one sequence"),
    lumina_2: (diffusers.Lumina2Pipeline, "Lumina 2 has none: text and image are one sequence"),
    hunyuan_dit: (diffusers.HunyuanDiTPipeline, "does not go into Hunyuan-DiT yet: Eq. 3 holds"),
}


def pipe_with(family):
    """The family's own pipeline, of which only the denoiser is there."""
    import inspect

    kind = ANSWERS[family][0]
    parts = inspect.signature(kind.__init__).parameters
    empty = {n: None for n, p in parts.items() if n != "self" and p.default is p.empty}
    return kind(**empty | {"transformer": family()[0]})


@pytest.mark.parametrize("family", ANSWERS, ids=lambda family: family.__name__)
def test_pipelines_and_folders_are_refused_in_one_sentence(family, tmp_path):
    pipe = pipe_with(family)
    with pytest.raises(UserError) as caught, load_concepts(pipe, {}):
        pass
    said = str(caught.value)
    assert ANSWERS[family][1] in said and ". " not in said.replace("Eq. ", "")
    pipe.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError) as again:
        Backbone.open(tmp_path / "model", device="cpu")
    assert str(again.value) == said


def test_of_the_hub_one_small_file_is_fetched_to_say_why(tmp_path):
    model = tmp_path / "flux"
    pipe_with(flux).save_pretrained(model)
    hub = Hub({"owner/flux": model})
    done = asked_of(tmp_path / "home", "owner/flux", endpoint=hub.address, code=CALL)
    hub.close()
    assert done.returncode == 1 and hub.fetched() == {"model_index.json"}
    assert "owner/flux: Perfusion edits K and V" in done.stderr
    assert "FLUX.1 has none" in done.stderr


def test_kolors_is_told_apart_from_xl_and_from_an_image_adapter(tmp_path):
    pipe = make_xl()
    with load_concepts(pipe, {}):
        pass
    pipe.unet = kolors()[0]
    with pytest.raises(UserError, match="does not go into Kolors yet"), load_concepts(pipe, {}):
        pass
    pipe.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="does not go into Kolors yet"):
        Backbone.open(tmp_path / "model", device="cpu")


def test_a_transformer_that_nobody_listed(tmp_path):
    dit = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, num_layers=1, sample_size=8,
        norm_num_groups=8, num_embeds_ada_norm=10,
    )  # fmt: skip
    pipe = diffusers.DiTPipeline(dit, None, None)
    with (
        pytest.raises(UserError, match="and not for a DiTTransformer2DModel;"),
        load_concepts(pipe, {}),
    ):
        pass
    pipe.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="and not for a DiTTransformer2DModel;"):
        Backbone.open(tmp_path / "model", device="cpu")


def test_a_transformer_that_could_have_the_edit_is_not_told_that_it_reads_no_text():
    prx = diffusers.PRXTransformer2DModel(
        in_channels=4, patch_size=1, context_in_dim=8, hidden_size=16, num_heads=2, depth=1,
        axes_dim=[4, 4],
    )  # fmt: skip
    pipe = diffusers.DiTPipeline(prx, None, None)
    with (
        pytest.raises(UserError, match="not for a PRXTransformer2DModel;"),
        load_concepts(pipe, {}),
    ):
        pass


def test_a_u_net_that_is_told_the_guidance_scale_is_no_backbone(tmp_path):
    for pipe in (make_pipe(), make_xl()):
        config = {**pipe.unet.config, "time_cond_proj_dim": 8, "_use_default_values": []}
        pipe.unet = diffusers.UNet2DConditionModel.from_config(config)
        pipe.save_pretrained(tmp_path / type(pipe).__name__)
        with pytest.raises(UserError, match="is told the guidance scale"):
            Backbone.open(tmp_path / type(pipe).__name__, device="cpu")


def test_a_refiner_is_told_apart_from_xl_without_its_first_text_encoder():
    pipe = make_xl()
    pipe.text_encoder = None
    with pytest.raises(UserError, match="has no text_encoder, and"), load_concepts(pipe, {}):
        pass
    config = {**pipe.unet.config, "cross_attention_dim": pipe.text_encoder_2.config.hidden_size}
    pipe.unet = diffusers.UNet2DConditionModel.from_config(config)
    with pytest.raises(UserError, match="this is a refiner"), load_concepts(pipe, {}):
        pass


def test_the_listed_classes_are_those_of_diffusers():
    assert not [name for name in DENOISERS if not hasattr(diffusers, name)]
