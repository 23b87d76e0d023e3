"""Concepts in a pipeline with two text encoders, as Stable Diffusion XL has: Eq. 3 on the joint
encodings, pooled text, negative prompts, refusals, restoration.
"""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import WORDS, make_pipe
from diffusers import (
    ControlNetModel,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from xl_kit import WIDTHS, make_xl, make_xl_concept

from perfusion_core import Backbone, Concept, UserError, load_concepts
from perfusion_core.backbone import cross_attentions
from perfusion_core.covariance import FILE, estimate
from perfusion_core.weight_digests import text_digest, text_digest_of_files

TEXT = "A {teddy} sailing inside a {brew} on the lake"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones") / "tiny-xl"
    make_xl().save_pretrained(folder)
    backbone = Backbone.open(folder, device="cpu", dtype="float32")
    rng = random.Random(0)
    captions = [" ".join(rng.choices(WORDS, k=rng.randint(3, 12))) for _ in range(200)]
    estimate(backbone, captions, folder / FILE, source="random words")
    return backbone


@pytest.fixture(scope="module")
def pipe(backbone):
    """A stock pipeline of the same folder."""
    pipe = StableDiffusionXLPipeline.from_pretrained(backbone.place, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def teddy(backbone):
    return make_xl_concept(backbone, "teddy", "toy", seed=1)


@pytest.fixture(scope="module")
def brew(backbone):
    return make_xl_concept(backbone, "brew", "teapot", seed=2)


def draw(pipe, prompt, **more):
    count = len(prompt) if isinstance(prompt, list) else 1
    seeds = range(count * more.get("num_images_per_prompt", 1))
    generator = [torch.Generator().manual_seed(n) for n in seeds]
    size = {} if "image" in more else {"height": 16, "width": 16}
    return pipe(
        prompt, num_inference_steps=3, generator=generator, output_type="np", **size, **more
    ).images


def states(pipe):
    return {
        f"{part}.{name}": tensor.clone()
        for part in ("unet", "text_encoder", "text_encoder_2", "vae")
        for name, tensor in getattr(pipe, part).state_dict().items()
    }


def by_hand(pipe, text, words, vectors=()):
    """The joint encodings [M, d] and the pooled text [p] of one text, from the encoders themselves:
    each concept's word is a token, over whose row its part of the vector is written.
    """
    for name, word in words.items():
        text = text.replace(f"{{{name}}}", word)
    outs = []
    for tail, part in (("", slice(0, WIDTHS[0])), ("_2", slice(WIDTHS[0], None))):
        tokenizer, model = getattr(pipe, f"tokenizer{tail}"), getattr(pipe, f"text_encoder{tail}")
        length = tokenizer.model_max_length
        ids = tokenizer(text, padding="max_length", max_length=length, return_tensors="pt")
        ids, table = ids.input_ids, model.get_input_embeddings()
        rows = table.weight.detach().clone()
        for name, vector in dict(vectors).items():
            rows[tokenizer(words[name], add_special_tokens=False).input_ids[0]] = vector[part]
        kept, table.weight = table.weight, torch.nn.Parameter(rows)
        with torch.no_grad():
            outs.append(model(ids, output_hidden_states=True))
        table.weight = kept
    return torch.cat([out.hidden_states[-2][0] for out in outs], dim=-1), outs[1].text_embeds[0]


def eq_4(e, weight, i_star, o_star, c_inv, bias, temperature):
    """Eq. 3 and 4 written from the paper, in float64, position by position."""
    e, weight, i_star, o_star = (t.detach().double() for t in (e, weight, i_star, o_star))

    def dot(a, b):
        return (a @ c_inv @ b).item()

    u = []
    for i in i_star:  # Gram-Schmidt in the metric of C^-1
        for done in u:
            i = i - dot(i, done) * done
        u.append(i / dot(i, i) ** 0.5)
    rows = []
    for one in e:
        left = one - sum(dot(one, done) * done for done in u)
        row = weight @ left
        for i, o, b, t in zip(i_star, o_star, bias, temperature, strict=True):
            similarity = dot(i, one) / dot(i, i)
            row = row + o / (1 + np.exp(-(similarity - b) / t))
        rows.append(row)
    return torch.stack(rows)


def test_all_layers_are_eq_4_of_the_joint_encodings(pipe, backbone, teddy, brew):
    """Two concepts of different bias; e, e_super and every K and V are recomputed by hand."""
    words, gates = {"teddy": "toy", "brew": "teapot"}, ([0.55, 0.7], [0.1, 0.15])
    c_inv = backbone.c_inv
    i_star = torch.stack([teddy.i_star, brew.i_star])
    e, _ = by_hand(pipe, TEXT, words, {"teddy": teddy.embedding, "brew": brew.embedding})
    supers = torch.stack(
        [by_hand(pipe, f"A photo of a {word}", {})[0][5] for word in words.values()]
    ).double()
    both = {"teddy": teddy, "brew": brew}
    with load_concepts(pipe, both, bias={"teddy": 0.55, "brew": 0.7}, temperature={"teddy": 0.1}):
        encodings, _, pooled, _ = pipe.encode_prompt(TEXT, None, "cpu", 1, False)
        layers = cross_attentions(pipe.unet)
        keys = [layer.to_k(encodings)[0].detach() for layer in layers.values()]
        values = [layer.to_v(encodings)[0].detach() for layer in layers.values()]
    torch.testing.assert_close(encodings[0], e)
    assert len(layers) == 8 and encodings.shape[2] == sum(WIDTHS)
    for n, layer in enumerate(cross_attentions(pipe.unet).values()):
        w_k, w_v = layer.to_k.weight, layer.to_v.weight
        o_v = torch.stack([teddy.o_v[n], brew.o_v[n]])
        expected = eq_4(e, w_v, i_star, o_v, c_inv, *gates)
        torch.testing.assert_close(values[n].double(), expected, rtol=1e-4, atol=1e-5)
        o_k = supers @ w_k.detach().double().T
        expected = eq_4(e, w_k, i_star, o_k, c_inv, *gates)
        torch.testing.assert_close(keys[n].double(), expected, rtol=1e-4, atol=1e-5)
    # the pooled text is that of the super-categories' prompt
    torch.testing.assert_close(pooled[0], by_hand(pipe, TEXT, words)[1])


@pytest.mark.parametrize("lock", ["local", "global"])
def test_pooled_text_of_the_concepts_own_prompt(pipe, teddy, brew, lock):
    words, both = {"teddy": "toy", "brew": "teapot"}, {"teddy": teddy, "brew": brew}
    own = by_hand(pipe, TEXT, words, {"teddy": teddy.embedding, "brew": brew.embedding})[1]
    one = by_hand(pipe, TEXT, words, {"teddy": teddy.embedding})[1]
    locked = by_hand(pipe, TEXT, words)[1]
    assert (own - locked).norm() > 1e-3 * locked.norm() and (own - one).norm() > 1e-3 * own.norm()
    trained = {"teddy": replace(teddy, pooled="concept"), "brew": brew}
    for concepts, pooled, expected in (
        (both, None, locked),
        (both, "concept", own),
        (trained, None, one),  # each as it was trained
        (trained, "super", locked),
    ):
        with load_concepts(pipe, concepts, lock, pooled=pooled):
            found = pipe.encode_prompt(TEXT, None, "cpu", 1, False)[2]
        torch.testing.assert_close(found[0], expected)


def test_global_lock_takes_all_keys_from_the_super_categorys_prompt(pipe, teddy):
    text = "A {teddy} reading a book"
    plain, _ = by_hand(pipe, text, {"teddy": "toy"})
    with load_concepts(pipe, {"teddy": teddy}, "global"):
        encodings = pipe.encode_prompt(text, None, "cpu", 1, False)[0]
        layers = cross_attentions(pipe.unet)
        keys = [layer.to_k(encodings)[0].detach() for layer in layers.values()]
        values = [layer.to_v(encodings)[0].detach() for layer in layers.values()]
    with load_concepts(pipe, {"teddy": teddy}, "local"):
        encodings = pipe.encode_prompt(text, None, "cpu", 1, False)[0]
        local = [layer.to_v(encodings)[0].detach() for layer in layers.values()]
    for n, layer in enumerate(layers.values()):
        torch.testing.assert_close(keys[n], plain @ layer.to_k.weight.T)
        torch.testing.assert_close(values[n], local[n])


def test_no_negative_prompt_is_zeros_and_eq_3_holds_of_them(pipe, backbone, teddy):
    """Similarity 0: W e is 0, each value is o_star at the gate's sigmoid(-bias / temperature)."""
    with load_concepts(pipe, {"teddy": teddy}, bias=0.6, temperature=0.15):
        _, negative, _, pooled = pipe.encode_prompt("A {teddy}", None, "cpu", 1, True)
        values = [
            layer.to_v(negative)[0].detach() for layer in cross_attentions(pipe.unet).values()
        ]
    assert not negative.any() and not pooled.any()
    for value, o_v in zip(values, teddy.o_v, strict=True):
        expected = o_v.double() / (1 + np.exp(0.6 / 0.15))
        torch.testing.assert_close(value.double(), expected.expand_as(value), rtol=1e-5, atol=1e-7)
    # an empty text is a text, as in the stock pipeline
    stock = pipe.encode_prompt("A toy", None, "cpu", 1, True, negative_prompt="")
    with load_concepts(pipe, {"teddy": teddy}):
        ours = pipe.encode_prompt("A {teddy}", None, "cpu", 1, True, negative_prompt="")
    assert ours[1].any()
    torch.testing.assert_close(ours[1], stock[1])
    torch.testing.assert_close(ours[3], stock[3])
    # and where a model was not trained with zeros there are none
    pipe.register_to_config(force_zeros_for_empty_prompt=False)
    with load_concepts(pipe, {"teddy": teddy}):
        none = pipe.encode_prompt("A {teddy}", None, "cpu", 1, True)
    pipe.register_to_config(force_zeros_for_empty_prompt=True)
    torch.testing.assert_close(none[1], stock[1])


@pytest.mark.parametrize("lock", ["local", "global"])
def test_batches_repeats_and_guidance_change_nothing_for_one_image(pipe, teddy, brew, lock):
    prompts = ["A {teddy} on the beach", "a photo of a cat", "A {brew} and a {teddy}, in the snow"]
    against = ["red", "blue", "gold {brew}"]
    more = {"guidance_scale": 6.0, "num_images_per_prompt": 2}
    with load_concepts(pipe, {"teddy": teddy, "brew": brew}, lock, bias=0.5):
        together = draw(pipe, prompts, negative_prompt=against, **more)
        zeros = draw(pipe, prompts, **more)
        for n, (prompt, negative) in enumerate(zip(prompts, against, strict=True)):
            seeds = [torch.Generator().manual_seed(2 * n + k) for k in range(2)]
            how = {"num_inference_steps": 3, "output_type": "np", "height": 16, "width": 16, **more}
            alone = pipe(prompt, negative_prompt=negative, generator=seeds, **how).images
            assert np.abs(alone - together[2 * n : 2 * n + 2]).max() < 2 / 255
    assert np.isfinite(zeros).all() and np.abs(zeros - together).max() > 2 / 255


@pytest.mark.parametrize("lock", ["local", "global"])
def test_bit_for_bit_restored(pipe, teddy, lock):
    before, modules = states(pipe), dict(pipe.unet.named_modules())
    hooks = [len(model._forward_pre_hooks) for model in (pipe.text_encoder, pipe.text_encoder_2)]
    image = draw(pipe, "A toy on the beach")
    with load_concepts(pipe, {"teddy": teddy}, lock):
        edited = draw(pipe, "A {teddy} on the beach")
        assert before.keys() == states(pipe).keys()
    assert np.abs(edited - image).max() > 1e-3
    after = states(pipe)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert dict(pipe.unet.named_modules()) == modules and "encode_prompt" not in vars(pipe)
    assert hooks == [len(m._forward_pre_hooks) for m in (pipe.text_encoder, pipe.text_encoder_2)]
    assert np.array_equal(draw(pipe, "A toy on the beach"), image)
    with pytest.raises(RuntimeError, match="inside"), load_concepts(pipe, {"teddy": teddy}, lock):
        raise RuntimeError("inside")
    assert np.array_equal(draw(pipe, "A toy on the beach"), image)


@pytest.mark.parametrize("lock", ["local", "global"])
def test_image_to_image_and_inpainting(pipe, teddy, lock):
    picture, mask = Image.new("RGB", (16, 16), "red"), Image.new("L", (16, 16), 255)
    for kind, more in (
        (StableDiffusionXLImg2ImgPipeline, {}),
        (StableDiffusionXLInpaintPipeline, {"mask_image": mask, "height": 16, "width": 16}),
    ):
        other = kind.from_pipe(pipe)
        other.set_progress_bar_config(disable=True)
        plain = draw(other, "A toy", image=picture, strength=0.9, **more)
        with load_concepts(other, {"teddy": teddy}, lock):
            edited = draw(other, "A {teddy}", image=picture, strength=0.9, **more)
            if lock == "local":
                with pytest.raises(UserError, match="as mere letters"):
                    pipe("A {teddy}", num_inference_steps=1)
        assert np.isfinite(edited).all() and np.abs(edited - plain).max() > 1e-3
        assert np.array_equal(draw(other, "A toy", image=picture, strength=0.9, **more), plain)


def test_words_as_tokens_of_both_tokenizers(pipe, backbone, teddy):
    """A program that encodes prompts by itself: here the stock method of a pipeline beside it."""
    beside, sizes = StableDiffusionXLPipeline.from_pipe(pipe), len(pipe.tokenizer)
    with load_concepts(pipe, {"teddy": teddy}, pooled="concept"):
        usual = pipe.encode_prompt("A {teddy} on the beach", None, "cpu", 1, False)
    with load_concepts(pipe, {"teddy": teddy}, tokens=True):
        theirs = beside.encode_prompt("A {teddy} on the beach", None, "cpu", 1, False)
    torch.testing.assert_close(theirs[0], usual[0])
    torch.testing.assert_close(theirs[2], usual[2])
    assert len(pipe.tokenizer) == len(pipe.tokenizer_2) == sizes
    assert backbone.text_digest == Backbone.open(backbone.place, device="cpu").text_digest


@pytest.mark.parametrize("lock", ["local", "global"])
def test_a_controlnet_reads_the_prompt_without_the_second_half(pipe, backbone, teddy, lock):
    """A fresh one changes nothing, so the picture is that of the plain pipeline."""
    net = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(16, 32))
    other = StableDiffusionXLControlNetPipeline(
        **{name: part for name, part in pipe.components.items() if part is not None},
        controlnet=net.eval(),
        add_watermarker=False,
    )
    other.set_progress_bar_config(disable=True)
    with load_concepts(pipe, {"teddy": teddy}, lock):
        usual = draw(pipe, "A {teddy} on the beach")
    with load_concepts(other, {"teddy": teddy}, lock, c_inv=backbone.c_inv):
        guided = draw(
            other, "A {teddy} on the beach", image=Image.new("RGB", (16, 16)), height=16, width=16
        )
    assert np.abs(guided - usual).max() < 1e-4


def test_textual_inversions_of_both_encoders_or_of_one(backbone, teddy):
    pipe = make_xl()
    parts = [(pipe.text_encoder, pipe.tokenizer), (pipe.text_encoder_2, pipe.tokenizer_2)]
    for (model, tokenizer), width in zip(parts, WIDTHS, strict=True):
        vectors = torch.randn(2, width)  # two tokens, so that words behind it move
        pipe.load_textual_inversion(vectors, token="<mug>", text_encoder=model, tokenizer=tokenizer)
    with load_concepts(pipe, {"teddy": teddy}, c_inv=backbone.c_inv):
        found = pipe.encode_prompt("a <mug> and a {teddy}", None, "cpu", 1, False)[0]
        assert found.isfinite().all()
    stock = pipe.encode_prompt("a <mug> and a toy", None, "cpu", 1, False)[0]
    # up to the concept's own word they read the same
    torch.testing.assert_close(found[0, :6], stock[0, :6])
    assert (found[0, 6] - stock[0, 6]).norm() > 1e-3
    one = make_xl()
    one.load_textual_inversion(
        torch.randn(2, WIDTHS[0]),
        token="<mug>",
        text_encoder=one.text_encoder,
        tokenizer=one.tokenizer,
    )
    with load_concepts(one, {"teddy": teddy}, c_inv=backbone.c_inv):
        one.encode_prompt("a {teddy} and a <mug>", None, "cpu", 1, False)
        with pytest.raises(UserError, match="the two tokenizers of this pipeline split"):
            one.encode_prompt("a <mug> and a {teddy}", None, "cpu", 1, False)


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2"])
def test_keys_follow_an_adapter_on_either_text_encoder(backbone, teddy, part):
    """It comes inside the block: the super-category's key is then that of the adapted encoder."""
    from peft import LoraConfig, inject_adapter_in_model

    pipe = make_xl()
    text = {"teddy": "toy"}
    plain = by_hand(pipe, "A photo of a {teddy}", text)[0][5]
    with load_concepts(pipe, {"teddy": teddy}, c_inv=backbone.c_inv):
        config = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        inject_adapter_in_model(config, getattr(pipe, part))
        pipe.encode_prompt("A {teddy}", None, "cpu", 1, False)
        keys = next(iter(cross_attentions(pipe.unet).values())).to_k.e_super[0]
        now = by_hand(pipe, "A photo of a {teddy}", text)[0][5]
    torch.testing.assert_close(keys, now)
    assert (now - plain).norm() > 1e-3 * plain.norm()


def test_a_second_prompt_of_its_own_is_refused(pipe, teddy):
    with load_concepts(pipe, {"teddy": teddy}):
        usual = draw(pipe, "A {teddy}")
        assert np.array_equal(draw(pipe, "A {teddy}", prompt_2="A {teddy}"), usual)
        with pytest.raises(UserError, match="leave prompt_2 out"):
            draw(pipe, "A {teddy}", prompt_2="A painting")
        with pytest.raises(UserError, match="leave negative_prompt_2 out"):
            draw(pipe, "A {teddy}", negative_prompt="red", negative_prompt_2="blue")
        with pytest.raises(UserError, match="clip_skip"):
            draw(pipe, "A {teddy}", clip_skip=1)
        with pytest.raises(UserError, match="3 prompts need one negative prompt or as many, not 2"):
            pipe.encode_prompt(["A {teddy}"] * 3, None, "cpu", 1, True, ["red"] * 2)
    with load_concepts(pipe, {"teddy": teddy}, "global"):
        given = dict.fromkeys(("prompt_embeds", "pooled_prompt_embeds"), torch.zeros(1, 32, 64))
        with pytest.raises(UserError, match="needs the prompt itself"):
            pipe.encode_prompt(None, None, "cpu", 1, False, **given)


def test_refusals(pipe, teddy):
    with pytest.raises(UserError, match="did you mean 'concept'"):
        load_concepts(pipe, {"teddy": teddy}, pooled="concepts").__enter__()
    with pytest.raises(UserError, match="reads no pooled text"):
        load_concepts(make_pipe(), {}, pooled="concept").__enter__()
    with pytest.raises(UserError, match="was made for another model"):
        load_concepts(make_pipe(), {"teddy": teddy}).__enter__()
    kept, pipe.text_encoder_2 = pipe.text_encoder_2, None
    with pytest.raises(UserError, match="has no text_encoder_2"):
        load_concepts(pipe, {"teddy": teddy}).__enter__()
    pipe.text_encoder_2 = kept
    kept, pipe.text_encoder = pipe.text_encoder, None
    with pytest.raises(UserError, match="has no text_encoder, and"):
        load_concepts(pipe, {"teddy": teddy}).__enter__()
    pipe.text_encoder = kept


def test_the_file_holds_a_vector_for_each_encoder(pipe, teddy, tmp_path):
    path = tmp_path / "teddy.safetensors"
    own = replace(teddy, pooled="concept")
    own.save(path, torch.float32)
    again = Concept.load(path)
    for name in ("i_star", "embedding"):
        assert torch.equal(getattr(again, name), getattr(own, name))
    assert all(torch.equal(a, b) for a, b in zip(again.o_v, own.o_v, strict=True))
    assert (again.widths, again.pooled, again.header()["version"]) == ([24, 40], "concept", "3")
    assert again.text_shape.endswith(":hidden_states[-2]") and again.names == own.names
    with load_concepts(pipe, {"teddy": own}):
        drawn = draw(pipe, "A {teddy}")
    with load_concepts(pipe, {"teddy": path}):
        assert np.array_equal(draw(pipe, "A {teddy}"), drawn)
    damaged = path.read_bytes().replace(b'"pooled":"concept"', b'"pooled":"nothing"')
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="its pooled text is 'nothing'"):
        Concept.load(path)


def test_the_digest_is_of_both_encoders(backbone, pipe, tmp_path):
    digest = backbone.text_digest
    assert digest == text_digest_of_files(backbone.place)
    assert digest not in (text_digest(pipe.text_encoder), text_digest(pipe.text_encoder_2))
    for part in ("text_encoder", "text_encoder_2"):
        other = make_xl()
        with torch.no_grad():
            next(getattr(other, part).parameters()).mul_(-1)
        other.save_pretrained(tmp_path / part)
        assert text_digest_of_files(tmp_path / part) != digest
        assert Backbone.open(tmp_path / part, device="cpu").digest != backbone.digest
    with pytest.raises(UserError, match="has two text encoders"):
        _ = backbone.text_encoder
