"""Concepts in the other pipelines that share the U-Net: img2img, inpainting, ControlNet;
schedulers; offloading.
"""

import diffusers
import numpy as np
import pytest
import torch
from conftest import make_concept, make_pipe
from PIL import Image

from perfusion_core import load_concepts

SCHEDULERS = [
    "DDIMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "LCMScheduler",
]
PROMPT = "A {teddy} on the beach"


@pytest.fixture(scope="module")
def base(tiny_c_inv):
    return make_pipe()


@pytest.fixture(scope="module")
def teddy(tiny_backbone):
    return make_concept(tiny_backbone, "teddy", "toy", seed=1)


def picture(size=16):
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    )


def control(base):
    """A ControlNet with the tiny U-Net's shape whose zero convolutions are not zero."""
    torch.manual_seed(5)
    net = diffusers.ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=(8, 8))
    with torch.no_grad():
        for block in (*net.controlnet_down_blocks, net.controlnet_mid_block):
            block.weight.normal_(std=0.05)
    return net.eval()


def pipelines(base):
    """Each with what it needs besides the prompt."""
    parts = {name: part for name, part in base.components.items() if name != "image_encoder"}
    parts |= {"requires_safety_checker": False}
    mask = Image.fromarray(np.pad(np.full((8, 8), 255, np.uint8), 4))
    net = control(base)
    return {
        "text": (diffusers.StableDiffusionPipeline(**parts), {"height": 16, "width": 16}),
        "img2img": (
            diffusers.StableDiffusionImg2ImgPipeline(**parts),
            {"image": picture(), "strength": 0.8},
        ),
        "inpaint": (
            diffusers.StableDiffusionInpaintPipeline(**parts),
            {"image": picture(), "mask_image": mask, "height": 16, "width": 16, "strength": 1.0},
        ),
        "controlnet": (
            diffusers.StableDiffusionControlNetPipeline(**parts, controlnet=net),
            {"image": picture(), "height": 16, "width": 16},
        ),
        "controlnet-img2img": (
            diffusers.StableDiffusionControlNetImg2ImgPipeline(**parts, controlnet=net),
            {"image": picture(), "control_image": picture(), "strength": 0.8},
        ),
    }


def draw(pipe, prompt, more, steps=4, guidance=5.0):
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    done = pipe(
        prompt,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=generator,
        output_type="np",
        **more,
    )
    return done.images


@pytest.mark.parametrize("kind", ["text", "img2img", "inpaint", "controlnet", "controlnet-img2img"])
@pytest.mark.parametrize("lock", ["local", "global"])
def test_a_concept_in_every_pipeline(base, teddy, tiny_c_inv, kind, lock):
    pipe, more = pipelines(base)[kind]
    plain = draw(pipe, "A toy on the beach", more)
    with load_concepts(pipe, {"teddy": teddy}, lock=lock, bias=0.4, c_inv=tiny_c_inv):
        edited = draw(pipe, PROMPT, more)
    assert edited.shape == plain.shape == (1, 16, 16, 3) and np.isfinite(edited).all()
    assert np.abs(edited - plain).mean() > 1e-3
    assert np.array_equal(draw(pipe, "A toy on the beach", more), plain)  # as it was
    assert "encode_prompt" not in vars(pipe)


def test_the_pipelines_agree_where_they_do_the_same(base, teddy, tiny_c_inv):
    """Inpainting all of a picture at full strength starts from noise, as text to image does, with
    the same edit.
    """
    everything = {"mask_image": Image.fromarray(np.full((16, 16), 255, np.uint8))}
    made = pipelines(base)
    images = []
    for kind, change in (("text", {}), ("inpaint", everything)):
        pipe, more = made[kind]
        with load_concepts(pipe, {"teddy": teddy}, bias=0.4, c_inv=tiny_c_inv):
            latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(9))
            images.append(draw(pipe, PROMPT, {**more, **change, "latents": latents}))
    assert np.abs(images[0] - images[1]).max() < 2 / 255


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(base, teddy, tiny_c_inv, name):
    pipe, more = pipelines(base)["text"]
    pipe.scheduler = getattr(diffusers, name).from_config(base.scheduler.config)
    plain = draw(pipe, "A toy on the beach", more)
    with load_concepts(pipe, {"teddy": teddy}, bias=0.4, c_inv=tiny_c_inv):
        edited = draw(pipe, PROMPT, more)
    assert np.isfinite(edited).all() and np.abs(edited - plain).mean() > 1e-4


@pytest.mark.parametrize("way", ["enable_attention_slicing", "enable_freeu"])
def test_savers_of_the_pipeline(base, teddy, tiny_c_inv, way):
    """Other users of the same U-Net: slicing leaves the picture as it is, FreeU changes it; both
    run with a concept.
    """
    pipe, more = (
        diffusers.StableDiffusionPipeline(**pipelines(base)["text"][0].components),
        {"height": 16, "width": 16},
    )
    with load_concepts(pipe, {"teddy": teddy}, bias=0.4, c_inv=tiny_c_inv):
        usual = draw(pipe, PROMPT, more)
        getattr(pipe, way)(
            **({"s1": 0.9, "s2": 0.2, "b1": 1.2, "b2": 1.4} if way == "enable_freeu" else {})
        )
        changed = draw(pipe, PROMPT, more)
        getattr(pipe, way.replace("enable", "disable"))()
    assert np.isfinite(changed).all()
    if way == "enable_attention_slicing":
        assert np.abs(changed - usual).max() < 1e-3


@pytest.mark.parametrize("lock", ["local", "global"])
def test_offloading_with_the_cpu_as_its_own_accelerator(teddy, tiny_c_inv, lock):
    """The pipeline's own method and hooks, which it removes and sets again after each call."""
    usual, offloaded, more = make_pipe(), make_pipe(), {"height": 16, "width": 16}
    offloaded.enable_model_cpu_offload(device="cpu")
    plain = draw(usual, "A toy on the beach", more)
    images = []
    for pipe in (usual, offloaded):
        with load_concepts(pipe, {"teddy": teddy}, lock=lock, bias=0.4, c_inv=tiny_c_inv):
            images += [draw(pipe, PROMPT, more), draw(pipe, "A red {teddy}", more)]
        assert np.array_equal(draw(pipe, "A toy on the beach", more), plain)
    assert np.array_equal(images[:2], images[2:])


def test_sequential_offloading_is_refused(teddy, tiny_c_inv):
    """It takes the weights out of the layers between calls, so what stands in their place would
    have none.
    """
    from perfusion_core.errors import UserError

    pipe, more = make_pipe(), {"height": 16, "width": 16}
    pipe.enable_sequential_cpu_offload(device="cpu")
    says = r"call pipe\.enable_model_cpu_offload"
    with (
        pytest.raises(UserError, match=says),
        load_concepts(pipe, {"teddy": teddy}, c_inv=tiny_c_inv),
    ):
        pass
    pipe.enable_model_cpu_offload(device="cpu")  # as it says
    with load_concepts(pipe, {"teddy": teddy}, c_inv=tiny_c_inv):
        assert np.isfinite(draw(pipe, PROMPT, more)).all()


def test_projections_that_pass_by_ours_are_refused(teddy, tiny_c_inv):
    """Fused Q, K and V: the concept would be loaded and the plain model drawn, without a word."""
    from perfusion_core.errors import UserError

    pipe, more = make_pipe(), {"height": 16, "width": 16}
    plain = draw(pipe, "A toy on the beach", more)
    pipe.fuse_qkv_projections(vae=False)
    says = r"K and V of its own .*unfuse_qkv_projections"
    with (
        pytest.raises(UserError, match=says),
        load_concepts(pipe, {"teddy": teddy}, c_inv=tiny_c_inv),
    ):
        pass
    pipe.unfuse_qkv_projections(vae=False)
    with load_concepts(pipe, {"teddy": teddy}, bias=0.4, c_inv=tiny_c_inv):
        assert np.abs(draw(pipe, PROMPT, more) - plain).mean() > 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("lock", ["local", "global"])
def test_offloading_on_a_gpu(teddy, tiny_c_inv, lock):
    """The real thing: models wander to the GPU when they are called, the concept's tensors
    follow.
    """
    usual, offloaded, more = make_pipe().to("cuda"), make_pipe(), {"height": 16, "width": 16}
    offloaded.enable_model_cpu_offload()
    images = []
    for pipe in (usual, offloaded):
        with load_concepts(pipe, {"teddy": teddy}, lock=lock, bias=0.4, c_inv=tiny_c_inv):
            images.append(draw(pipe, PROMPT, more))
    assert np.abs(images[0] - images[1]).max() < 2 / 255
