"""What other people's code does to a pipeline before a concept is loaded, and inside the block:
adapters, textual inversions, other pipelines, eight bits, compilers.

Every test ends in the same picture as without that code, or in one sentence.
"""

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from conftest import make_concept, make_pipe
from torch import nn
from torch.nn.functional import linear

from perfusion_core import load_concepts, rank_one
from perfusion_core.backbone import cross_attentions
from perfusion_core.errors import UserError
from perfusion_core.prompts import super_encoding
from perfusion_core.rank_one import EditedProjection, gated_edit

PROMPT, PLAIN = "A {teddy} on the beach", "A toy on the beach"
SIZE = {"height": 16, "width": 16}


@pytest.fixture(scope="module")
def teddy(tiny_backbone):
    return make_concept(tiny_backbone, "teddy", "toy", seed=1)


@pytest.fixture(scope="module")
def load(teddy, tiny_c_inv):
    """The concept in a pipeline, with a bias that lets much of it in."""
    return lambda pipe, **more: load_concepts(
        pipe, {"teddy": teddy}, **{"bias": 0.4, "c_inv": tiny_c_inv} | more
    )


@pytest.fixture(scope="module")
def usual(load):
    """The pictures that nobody's code may change: with the concept, and without."""
    pipe = make_pipe()
    with load(pipe):
        edited = draw(pipe)
    plain = draw(pipe, PLAIN)
    assert off(edited, plain) > 1e-3
    return edited, plain


def draw(pipe, prompt=PROMPT, **more):
    pipe.set_progress_bar_config(disable=True)
    done = pipe(
        prompt,
        num_inference_steps=3,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
        **SIZE | more,
    )
    return done.images if hasattr(done, "images") else np.stack(done.frames)


def off(a, b):
    return float(np.abs(a - b).mean())


def refused(says, context):
    with pytest.raises(UserError, match=says), context:
        pass


# ---- the plain module is asked ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("concepts", [1, 2])
def test_asking_the_plain_module_is_the_same_arithmetic(dtype, concepts):
    """Bit for bit the formula that was there before: e_orthogonal and gates through the weight."""
    torch.manual_seed(concepts)
    plain = nn.Linear(24, 40, bias=False).to(dtype)
    i_star, o_star, e = (torch.randn(n, d) for n, d in ((concepts, 24), (concepts, 40), (7, 24)))
    basis = rank_one.concept_basis(i_star, torch.eye(24))
    bias, temperature = torch.tensor([0.5] * concepts).double(), torch.ones(concepts).double()
    edit = rank_one.Edit(basis, bias, temperature)
    orthogonal, gates = rank_one.split(e, basis, bias, temperature)
    before = linear(orthogonal.to(dtype), plain.weight)
    before = before + (gates @ o_star.to(gates)).to(before.dtype)
    with torch.no_grad():
        ours = EditedProjection(plain, edit, o_star)(e)
    assert torch.equal(ours, before) and ours.dtype == dtype
    trained = EditedProjection(plain, edit, nn.Parameter(o_star))(e)  # as in a training
    assert torch.equal(trained, before) and trained.requires_grad


def lora(pipe, seed=1, targets=("to_k", "to_v", "to_q", "to_out.0"), name="default"):
    from peft import LoraConfig

    torch.manual_seed(seed)
    config = LoraConfig(r=2, lora_alpha=2, target_modules=list(targets), init_lora_weights=False)
    pipe.unet.add_adapter(config, name)
    return pipe


@pytest.fixture(scope="module")
def fused(load):
    """With an adapter on Q, K, V and the output that is one with the weights."""
    pipe = lora(make_pipe())
    plain = draw(pipe, PLAIN)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    with load(pipe):
        return draw(pipe), plain


@pytest.mark.parametrize("lock", ["local", "global"])
def test_an_adapter_on_k_and_v_beside_a_concept(load, usual, fused, lock):
    """Not fused, it is the fused one; its scale can be set at every call and in the middle."""
    pipe = lora(make_pipe())
    modules, states = dict(pipe.unet.named_modules()), pipe.unet.state_dict().keys()
    with load(pipe, lock=lock):
        assert pipe.unet.state_dict().keys() == states
        picture = draw(pipe)
        without = draw(pipe, cross_attention_kwargs={"scale": 0.0})
        half = draw(pipe, cross_attention_kwargs={"scale": 0.5})

        def turn_off(pipe, step, time, tensors):
            pipe.unet.disable_adapters() if step == 1 else None
            return tensors

        changed = draw(pipe, callback_on_step_end=turn_off)
        pipe.unet.enable_adapters()
    assert dict(pipe.unet.named_modules()) == modules
    assert np.array_equal(draw(pipe, PLAIN), fused[1])
    if lock == "local":
        assert off(picture, fused[0]) < 1e-6 and off(without, usual[0]) < 1e-6
    assert min(off(picture, without), off(half, without), off(half, picture)) > 1e-4
    assert min(off(changed, picture), off(changed, without)) > 1e-5


def test_fuse_lora_alone(load, fused):
    """Its wrappers stay where they are; that was refused with "fuse it first"."""
    pipe = lora(make_pipe())
    pipe.fuse_lora()
    with load(pipe):
        assert off(draw(pipe), fused[0]) < 1e-6


@pytest.mark.parametrize("way", ["add_adapter", "load_lora_weights"])
def test_an_adapter_that_comes_inside_the_block(load, usual, fused, tmp_path, way):
    """It goes behind the edit, works there, may be fused and unloaded there, and stays
    afterwards.
    """
    pipe = make_pipe()
    states = {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items()}
    with load(pipe):
        if way == "add_adapter":
            lora(pipe)
        else:
            from peft.utils import get_peft_model_state_dict

            given = lora(make_pipe())
            found, own = given.unet.state_dict().keys(), get_peft_model_state_dict(given.unet)
            pipe.save_lora_weights(tmp_path, unet_lora_layers=own)
            pipe.load_lora_weights(tmp_path)
            assert len(pipe.unet.state_dict()) == len(found)
        assert off(draw(pipe), fused[0]) < 1e-6
    assert off(draw(pipe, PLAIN), fused[1]) < 1e-6  # the adapter is the user's
    with load(pipe):  # loaded before, unloaded inside
        pipe.unload_lora_weights()
        assert off(draw(pipe), usual[0]) < 1e-6
    after = pipe.unet.state_dict()
    assert after.keys() == states.keys()
    assert all(torch.equal(after[name], states[name]) for name in states)
    assert np.array_equal(draw(pipe, PLAIN), usual[1])
    with load(pipe):  # came and was fused inside
        lora(pipe)
        pipe.fuse_lora()
        pipe.unload_lora_weights()
        assert off(draw(pipe), fused[0]) < 1e-6


def test_an_adapter_on_the_text_encoder_that_comes_and_goes(load, usual, caplog):
    """Its own words have moved: where the key is kept moves with them, and back."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=2, target_modules=["v_proj", "fc1"], init_lora_weights=False)

    def speak(pipe):
        torch.manual_seed(5)
        inject_adapter_in_model(config, pipe.text_encoder)
        return pipe

    with load(speak(make_pipe())) as pipe:
        expected = draw(pipe)
        weaker = draw(pipe, cross_attention_kwargs={"scale": 0.3})
    assert off(expected, usual[0]) > 1e-4 and off(expected, weaker) > 1e-4
    assert "another text encoder" not in caplog.text
    pipe = make_pipe()
    with load(pipe):
        assert np.array_equal(draw(pipe), usual[0])
        speak(pipe)
        assert off(draw(pipe), expected) < 1e-6
        assert off(draw(pipe, cross_attention_kwargs={"scale": 0.3}), weaker) < 1e-6
        for module in list(pipe.text_encoder.modules()):
            for name, part in list(module.named_children()):
                if name in config.target_modules:
                    setattr(module, name, part.base_layer)
        assert off(draw(pipe), usual[0]) < 1e-6


def test_weights_loaded_inside_the_block_are_what_draws(load):
    pipe, other = make_pipe(), make_pipe(seed=3)
    with load(other, force=True):
        expected = draw(other)
    other = make_pipe(seed=3)
    pipe.text_encoder = other.text_encoder
    with load(pipe, force=True):
        assert off(draw(pipe), expected) > 1e-3
        pipe.vae.load_state_dict(other.vae.state_dict())
        pipe.unet.load_state_dict(other.unet.state_dict())
        assert off(draw(pipe), expected) < 1e-6


def test_weights_are_saved_and_loaded_under_their_own_names(load, usual, tmp_path):
    pipe, other = make_pipe(), make_pipe(seed=3)
    names = list(pipe.unet.state_dict())
    with load(pipe):
        assert list(pipe.unet.state_dict()) == names
        pipe.unet.save_pretrained(tmp_path)
        told = pipe.unet.load_state_dict(other.unet.state_dict(), strict=True)
        assert not told.missing_keys and not told.unexpected_keys
        with pytest.raises(RuntimeError, match="to_k"):
            pipe.unet.load_state_dict(
                {n: t for n, t in other.unet.state_dict().items() if "to_k" not in n}
            )
    for name, tensor in other.unet.state_dict().items():
        assert torch.equal(pipe.unet.state_dict()[name], tensor), name
    pipe.unet = diffusers.UNet2DConditionModel.from_pretrained(tmp_path)
    assert np.array_equal(draw(pipe, PLAIN), usual[1])


@pytest.mark.parametrize("when", ["before", "inside"])
def test_weights_stored_in_eight_bits(load, usual, when):
    """As near to the usual picture as the plain model in eight bits is to the plain one."""
    pipe, low = make_pipe(), {"storage_dtype": torch.float8_e4m3fn, "compute_dtype": torch.float32}
    if when == "before":
        pipe.unet.enable_layerwise_casting(**low)
    with load(pipe):
        if when == "inside":
            pipe.unet.enable_layerwise_casting(**low)
        edited = draw(pipe)
    rounding = off(draw(pipe, PLAIN), usual[1])
    assert 0 < rounding < 0.02
    assert off(edited, usual[0]) < 2 * rounding


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantised_layer(load, usual, tiny_backbone, teddy, tiny_c_inv):
    """Integers, whose weight cannot be read: the layer is asked instead, for o_star_K, too."""
    pipe = make_pipe()
    torch.backends.quantized.engine = "fbgemm"
    layer = next(iter(cross_attentions(pipe.unet).values()))
    exact = layer.to_k
    holder = torch.ao.quantization.quantize_dynamic(nn.Sequential(exact), {nn.Linear})
    layer.to_k = holder[0]
    assert not isinstance(layer.to_k, nn.Linear)
    with load(pipe), torch.no_grad():
        encodings = pipe.encode_prompt(PROMPT, "cpu", 1, False)[0]
        keys = layer.to_k(encodings)
        assert off(draw(pipe), usual[0]) < 0.02
    e_super = super_encoding(pipe.text_encoder, pipe.tokenizer, "toy")
    o_k = linear(e_super[None], exact.weight)
    expected = gated_edit(encodings, exact.weight, teddy.i_star[None], o_k, tiny_c_inv, 0.4, 0.15)
    assert (keys - expected).norm() < 0.03 * expected.norm()
    assert layer.to_k is holder[0]


def test_a_bias_on_k_and_v_is_kept(load, teddy, tiny_c_inv):
    """Once, whatever the gate says; adapters around it change nothing about that."""
    pipe = make_pipe()
    layer = next(iter(cross_attentions(pipe.unet).values()))
    biased = nn.Linear(32, layer.to_v.out_features)
    nn.init.normal_(biased.bias)
    weight = biased.weight
    layer.to_k, layer.to_v = biased, biased
    e_super = super_encoding(pipe.text_encoder, pipe.tokenizer, "toy")
    for adapters in (False, True):
        if adapters:
            lora(pipe, targets=["to_k", "to_v"])
            pipe.unet.disable_adapters()
        with load(pipe), torch.no_grad():
            encodings = pipe.encode_prompt(PROMPT, "cpu", 1, False)[0]
            keys, values = layer.to_k(encodings), layer.to_v(encodings)
        for ours, o in ((keys, linear(e_super[None], weight)), (values, teddy.o_v[0][None])):
            edit = gated_edit(encodings, weight, teddy.i_star[None], o, tiny_c_inv, 0.4, 0.15)
            torch.testing.assert_close(ours, edit + biased.bias, rtol=1e-4, atol=1e-4)


def test_what_is_no_linear_layer_is_refused_by_its_name(load):
    pipe = make_pipe()
    layer = next(iter(cross_attentions(pipe.unet).values()))
    layer.to_v = nn.Sequential(layer.to_v, nn.ReLU())
    refused(r"attn2 projects K or V by a Sequential, which is not a linear layer", load(pipe))


def test_a_compiled_layer(load, usual):
    """Compiled before: edited inside, and as it was afterwards."""
    torch._dynamo.reset()
    pipe = make_pipe()
    next(iter(cross_attentions(pipe.unet).values())).compile(backend="eager")
    assert off(draw(pipe, PLAIN), usual[1]) < 1e-6
    with load(pipe):
        assert off(draw(pipe), usual[0]) < 1e-6
    assert off(draw(pipe, PLAIN), usual[1]) < 1e-6


@pytest.mark.parametrize("way", ["wrapped", "in place"])
def test_a_compiled_text_encoder(load, usual, way):
    """It did not see the concept's vector, without a word; inside the block it is not compiled."""
    torch._dynamo.reset()
    pipe = make_pipe()
    if way == "wrapped":
        pipe.text_encoder = torch.compile(pipe.text_encoder, backend="eager")
    else:
        pipe.text_encoder.compile(backend="eager")
    before, doing = pipe.text_encoder, pipe.text_encoder._compiled_call_impl
    pipe.encode_prompt(PLAIN, "cpu", 1, False)
    with load(pipe):
        assert off(draw(pipe), usual[0]) < 1e-6
    assert pipe.text_encoder is before and pipe.text_encoder._compiled_call_impl is doing


def test_a_wrapped_u_net_is_the_same_model(load):
    """For compilers its layers have other names, and a concept file tells them."""
    pipe = make_pipe()
    names = list(cross_attentions(pipe.unet))
    pipe.unet = torch.compile(pipe.unet, backend="eager")
    assert list(cross_attentions(pipe.unet)) == names
    with load(pipe):  # nothing is compiled before something is drawn
        assert all(
            isinstance(layer.to_v, EditedProjection)
            for layer in cross_attentions(pipe.unet).values()
        )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_u_net(load, usual, backend):
    """All of it, with an adapter that comes, too. That one stays: diffusers takes none out of a
    compiled U-Net, with a concept or without.
    """
    torch._dynamo.reset()
    pipe, stock = make_pipe(), make_pipe()
    pipe.unet = torch.compile(pipe.unet, backend=backend)
    assert off(draw(pipe, PLAIN), usual[1]) < 1e-6
    for bias, prompt in ((0.4, PROMPT), (0.9, "A red {teddy}")):
        with load(pipe, bias=bias), load(stock, bias=bias):
            assert off(draw(pipe, prompt), draw(stock, prompt)) < 1e-6
    assert off(draw(pipe, PLAIN), usual[1]) < 1e-6
    with load(pipe), load(stock):
        before = draw(stock)
        lora(pipe), lora(stock)
        assert off(draw(pipe), draw(stock)) < 1e-6
        assert off(draw(stock), before) > 1e-3


# ---- textual inversions ----


@pytest.mark.parametrize("unload", [False, True])
def test_a_textual_inversion_that_came_before(load, usual, unload):
    """Most people's pipelines have one for the negative prompt."""
    pipe = make_pipe()
    pipe.load_textual_inversion(torch.randn(2, 32), token="<bad>")
    if unload:
        pipe.unload_textual_inversion()
    with load(pipe):
        assert off(draw(pipe), usual[0]) < 1e-6
        if not unload:
            assert off(draw(pipe, negative_prompt="<bad>"), usual[0]) > 1e-4


def test_another_vocabulary_is_another_model(load, teddy, tiny_c_inv):
    """Fewer words than the encoder has are accepted for what was added to it, and for nothing
    else.
    """
    pipe = make_pipe()
    for shape in ("400x32x2", "9999x32x2", "0x32x2", "x32x2", "-1x32x2"):
        other = replace(teddy, text_shape=f"{shape}:last_hidden_state")
        refused("another model", load_concepts(pipe, {"a": other}, c_inv=tiny_c_inv, force=True))


# ---- prompts that come by another door ----


def img2img():
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return {"image": Image.fromarray(noise), "strength": 0.8}


def test_pipelines_made_of_this_one(load, usual):
    """from_pipe, before the block and inside: a sentence instead of the letters; with tokens the
    picture.
    """
    pipe = make_pipe()
    before = diffusers.StableDiffusionPipeline.from_pipe(pipe)
    says = r"the prompt's \{teddy\} reached the text encoder as mere letters.*tokens=True"
    with load(pipe):
        inside = diffusers.AutoPipelineForImage2Image.from_pipe(pipe)
        for other, more in ((before, {}), (inside, img2img() | {"height": None, "width": None})):
            for prompt in (PROMPT, "(a photo of {Teddy}), red"):
                with pytest.raises(UserError, match=says):
                    draw(other, prompt, **more)
        with pytest.raises(UserError, match=says):
            draw(before, "a cat", negative_prompt="{teddy}'s")
        assert np.isfinite(draw(before, "a cat, {not a concept}")).all()
    with load(pipe, tokens=True):
        inside = diffusers.StableDiffusionPipeline.from_pipe(pipe)
        for other in (pipe, before, inside):
            assert off(draw(other), usual[0]) < 1e-6
    assert np.array_equal(draw(before, PLAIN), usual[1])
    with load(pipe, lock="global"), pytest.raises(UserError, match="came without it"):
        draw(before, "a cat")


def states_of_text(pipe):
    tensors = {name: tensor.clone() for name, tensor in pipe.text_encoder.state_dict().items()}
    held = {k: v for k, v in vars(pipe.tokenizer).items() if k != "_tokenizer"}
    return tensors, repr(held), pipe.tokenizer.get_vocab(), len(pipe.tokenizer)


def same_text(a, b):
    return (
        a[1:] == b[1:]
        and a[0].keys() == b[0].keys()
        and all(torch.equal(a[0][name], b[0][name]) for name in a[0])
    )


def test_words_as_tokens_leave_no_trace(load, usual):
    pipe = make_pipe()
    before, rows = states_of_text(pipe), pipe.text_encoder.get_input_embeddings().weight
    with pytest.raises(RuntimeError), load(pipe, tokens=True):
        raise RuntimeError
    with load(pipe, tokens=True):
        assert len(pipe.tokenizer) == before[3] + 1
        ids = pipe.tokenizer(["A {teddy}'s", "({teddy}) {Teddy}"]).input_ids
        assert [row.count(before[3]) for row in ids] == [1, 1]
    assert same_text(states_of_text(pipe), before)
    assert pipe.text_encoder.get_input_embeddings().weight is rows
    assert np.array_equal(draw(pipe, PLAIN), usual[1])


def test_words_as_tokens_leave_the_dtype_that_the_pipeline_has_now(load):
    pipe = make_pipe()
    rows = pipe.text_encoder.get_input_embeddings().weight
    before = rows.detach().clone()
    with load(pipe, tokens=True):
        pipe.to(torch.float64)
    assert pipe.text_encoder.get_input_embeddings().weight is rows
    assert torch.equal(rows, before.double())
    found, right = (one.encode_prompt(PLAIN, "cpu", 1, False)[0] for one in (pipe, make_pipe()))
    assert found.dtype == torch.float64 and torch.allclose(found.float(), right, atol=1e-5)


def test_textual_inversions_that_come_and_go_beside_words_as_tokens(load, usual):
    pipe, once = make_pipe(), make_pipe()
    bad = torch.randn(2, 32)
    once.load_textual_inversion(bad, token="<bad>")
    with load(once):
        expected = draw(once, negative_prompt="<bad>")
    with load(pipe, tokens=True):
        pipe.load_textual_inversion(bad, token="<bad>")
        assert off(draw(pipe, negative_prompt="<bad>"), expected) < 1e-6
    assert "{teddy}" not in pipe.tokenizer.get_vocab()
    assert (
        off(draw(pipe, PLAIN, negative_prompt="<bad>"), draw(once, PLAIN, negative_prompt="<bad>"))
        < 1e-6
    )
    with load(pipe, tokens=True):
        pipe.unload_textual_inversion(["<bad>", "<bad>_1"])
        stock = diffusers.StableDiffusionPipeline.from_pipe(pipe)
        assert off(draw(stock), usual[0]) < 1e-6
    assert len(pipe.tokenizer) == len(make_pipe().tokenizer)
    assert off(draw(pipe, PLAIN), usual[1]) < 1e-6


def test_words_as_tokens_and_a_global_lock_do_not_go_together(load):
    refused(
        'tokens=True makes words .* use lock="local"', load(make_pipe(), tokens=True, lock="global")
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compel(load, usual):
    """Where it is installed: refused without tokens; with them the same picture, weights and
    blends.
    """
    compel = pytest.importorskip("compel")
    pipe = make_pipe()

    def weighted(text):
        read = compel.Compel(
            tokenizer=pipe.tokenizer,
            text_encoder=pipe.text_encoder,
            textual_inversion_manager=compel.DiffusersTextualInversionManager(pipe),
        )
        return draw(pipe, None, prompt_embeds=read(text), negative_prompt_embeds=read(""))

    with load(pipe), pytest.raises(UserError, match="mere letters"):
        weighted(PROMPT)
    with load(pipe, tokens=True):
        assert off(weighted(PROMPT), usual[0]) < 1e-6
        for text in ("A {teddy}++ on the beach", '("a {teddy}", "a red cat").blend(0.5, 0.5)'):
            assert off(weighted(text), usual[0]) > 1e-4


def test_pipelines_without_encode_prompt(load, teddy, tiny_c_inv):
    """They read the prompt themselves: a sentence, and with tokens the concept."""
    pipe = make_pipe()
    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    parts["unet"] = diffusers.UNet2DConditionModel.from_config(
        {**pipe.unet.config, "in_channels": 8, "_use_default_values": []}
    )
    old = diffusers.StableDiffusionInstructPix2PixPipeline(**parts, requires_safety_checker=False)
    assert not hasattr(old, "encode_prompt")
    more = img2img() | {"height": None, "width": None}
    del more["strength"], more["height"], more["width"]
    old.set_progress_bar_config(disable=True)

    def picture(prompt):
        generator = torch.Generator().manual_seed(0)
        return old(
            prompt, num_inference_steps=2, generator=generator, output_type="np", **more
        ).images

    plain = picture(PLAIN)
    refused(r"InstructPix2PixPipeline encodes prompts in a way of its own.*tokens=True", load(old))
    with load(old, tokens=True):
        assert off(picture(PROMPT), plain) > 1e-4
    assert np.array_equal(picture(PLAIN), plain)


# ---- what is refused before is refused inside ----


def test_what_draws_the_plain_model_is_refused_inside_too(load, usual):
    pipe = make_pipe()
    with load(pipe):
        pipe.fuse_qkv_projections(vae=False)
        with pytest.raises(UserError, match=r"K and V of its own .*unfuse_qkv_projections"):
            draw(pipe)
        pipe.unfuse_qkv_projections(vae=False)
        assert off(draw(pipe), usual[0]) < 1e-6
        mine, pipe.unet = pipe.unet, make_pipe().unet
        with pytest.raises(UserError, match=r"pipe\.unet is another one"):
            draw(pipe)
        pipe.unet = torch.compile(mine, backend="eager")  # the same layers
        pipe.encode_prompt(PROMPT, "cpu", 1, False)
        pipe.unet = mine
        layer = next(iter(cross_attentions(pipe.unet).values()))
        edit, layer.to_v = layer.to_v, nn.Linear(32, layer.to_v.plain.out_features, bias=False)
        with pytest.raises(UserError, match=r"put a Linear in the place of K or V of .*attn2"):
            draw(pipe)
        layer.to_v = edit
    assert np.array_equal(draw(pipe, PLAIN), usual[1])


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_pipeline_without_one_of_its_parts(load, usual, part):
    pipe = make_pipe()
    whole, _ = getattr(pipe, part), setattr(pipe, part, None)
    refused(f"has no {part}, and a concept is loaded into text encoder and U-Net", load(pipe))
    setattr(pipe, part, whole)
    with load(pipe):
        embeds, negative = pipe.encode_prompt(PROMPT, "cpu", 1, True)
        pipe.text_encoder = None  # as its sentence says
        again = draw(pipe, None, prompt_embeds=embeds, negative_prompt_embeds=negative)
    assert off(again, usual[0]) < 1e-6


def test_a_callback_that_changes_the_encodings_in_place(load, usual):
    """In inference mode tensors do not tell that they were changed."""
    pipe = make_pipe()

    def halve(pipe, step, time, tensors):
        tensors["prompt_embeds"].mul_(0.5)
        return tensors

    more = {
        "callback_on_step_end": halve,
        "callback_on_step_end_tensor_inputs": ["prompt_embeds"],
    }
    pictures = []
    for mode in (torch.no_grad, torch.inference_mode):
        with load(pipe), mode():
            embeds, negative = pipe.encode_prompt(PROMPT, "cpu", 1, True)
            given = {"prompt_embeds": embeds, "negative_prompt_embeds": negative}
            pictures.append(draw(pipe, None, **given, **more))
    assert off(*pictures) < 1e-6
    assert off(pictures[0], usual[0]) > 1e-4


@pytest.mark.parametrize(
    "prompt", ["A {{teddy}} on the beach", "a {teddy", "a {} toy", "{teddy} }", "a {teddy}}"]
)
def test_stray_braces_are_not_drawn(load, prompt):
    pipe = make_pipe()
    says = r"has a brace that belongs to no \{name\}.* write a concept as \{teddy\}"
    with load(pipe):
        with pytest.raises(UserError, match=says):
            draw(pipe, prompt)
        with pytest.raises(UserError, match=says):
            draw(pipe, "a cat", negative_prompt=prompt)


# ---- video ----


def test_animatediff(load, usual):
    """The text cross-attentions of a U-Net with motion modules are those of the U-Net it was made
    of.
    """
    pipe = make_pipe()
    torch.manual_seed(4)
    motion = diffusers.MotionAdapter(
        block_out_channels=(16, 32),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=8,
        motion_mid_block_layers_per_block=1,
    )
    video = diffusers.UNetMotionModel.from_unet2d(pipe.unet, motion).eval()
    assert list(cross_attentions(video)) == list(cross_attentions(pipe.unet))
    parts = {n: p for n, p in pipe.components.items() if n not in ("unet", "safety_checker")}
    film = diffusers.AnimateDiffPipeline(**parts | {"unet": video, "motion_adapter": motion})

    def frames(prompt):
        return draw(film, prompt, num_frames=2, decode_chunk_size=2)

    plain = frames(PLAIN)
    with load(film):
        edited = frames(PROMPT)
    assert np.isfinite(edited).all() and off(edited, plain) > 1e-4
    assert np.array_equal(frames(PLAIN), plain)
