"""Concepts in PixArt's and Sana's pipelines: Eq. 3 behind the projection of their text, biases,
masks, the instruction, both locks, refusals, restoration.
"""

import random
from dataclasses import replace
from inspect import signature

import diffusers
import numpy as np
import pytest
import torch
from caption_kit import MAKERS, SPACE, TEXT_WIDTH, WIDTH, make_pixart, make_sana
from conftest import WORDS, make_pipe
from xl_kit import make_xl_concept

from benchmarks.cli import run
from perfusion_core import Backbone, Concept, UserError, load_concepts
from perfusion_core.backbone import cross_attentions
from perfusion_core.covariance import FILE, estimate, read_covariance
from perfusion_core.weight_digests import text_digest_of_files

TEXT = "A {teddy} sailing inside a {brew} on the lake"
SIZE = {"pixart": 16, "sana": 32}
CAPTIONS = [
    " ".join(random.Random(n).choices(WORDS, k=random.Random(n).randint(3, 12))) for n in range(24)
]


@pytest.fixture(scope="module", params=MAKERS)
def backbone(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones") / request.param
    MAKERS[request.param]().save_pretrained(folder)
    backbone = Backbone.open(folder, device="cpu", dtype="float32")
    estimate(backbone, CAPTIONS, folder / FILE, source="random words", batch=4)
    return backbone


@pytest.fixture(scope="module")
def pipe(backbone):
    """A stock pipeline of the same folder."""
    pipe = diffusers.DiffusionPipeline.from_pretrained(backbone.place)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def teddy(backbone):
    return make_xl_concept(backbone, "teddy", "toy", seed=1)


@pytest.fixture(scope="module")
def brew(backbone):
    return make_xl_concept(backbone, "brew", "teapot", seed=2)


def draw(pipe, prompt, steps=2, **more):
    count = len(prompt) if isinstance(prompt, list) else 1
    seeds = range(count * more.get("num_images_per_prompt", 1))
    side = SIZE["sana" if "Sana" in type(pipe).__name__ else "pixart"]
    return pipe(
        prompt,
        num_inference_steps=steps,
        generator=[torch.Generator().manual_seed(n) for n in seeds],
        output_type="np",
        height=side,
        width=side,
        use_resolution_binning=False,
        **more,
    ).images


def states(pipe):
    return {
        f"{part}.{name}": tensor.clone()
        for part in ("transformer", "text_encoder", "vae")
        for name, tensor in getattr(pipe, part).state_dict().items()
    }


def by_hand(pipe, text, words, vectors=(), negative=False):
    """What attn2 reads of a text, [M, d], and which of it counts: each concept's word is a piece,
    over whose row its vector is written.
    """
    for name, word in words.items():
        text = text.replace(f"{{{name}}}", word)
    told = signature(type(pipe).__call__).parameters
    length, before = told["max_sequence_length"].default, ""
    if "complex_human_instruction" in told and not negative:
        before = "\n".join(told["complex_human_instruction"].default)
    long = length + (len(pipe.tokenizer.encode(before)) - 2 if before else 0)
    pipe.tokenizer.padding_side = "right"
    found = pipe.tokenizer(
        before + text.lower(), padding="max_length", max_length=long, return_tensors="pt"
    )
    rows = pipe.text_encoder.get_input_embeddings().weight
    kept = rows.detach().clone()
    with torch.no_grad():
        for name, vector in dict(vectors).items():
            rows[pipe.tokenizer.convert_tokens_to_ids(SPACE + words[name])] = vector
        out = pipe.text_encoder(found.input_ids, attention_mask=found.attention_mask)[0]
        rows.copy_(kept)
        some = [0, *range(long - length + 1, long)]
        e = pipe.transformer.caption_projection(out[:, some])
        if hasattr(pipe.transformer, "caption_norm"):
            e = pipe.transformer.caption_norm(e)
    return e[0], found.attention_mask[0, some]


def eq_4(e, layer, i_star, o_star, c_inv, bias, temperature):
    """Eq. 3 and 4 written from the paper, in float64, position by position; the layer's own bias is
    added to all of it.
    """
    e, weight, i_star, o_star = (t.detach().double() for t in (e, layer.weight, i_star, o_star))

    def dot(a, b):
        return (a @ c_inv @ b).item()

    u = []
    for i in i_star:  # Gram-Schmidt in the metric of C^-1
        for done in u:
            i = i - dot(i, done) * done
        u.append(i / dot(i, i) ** 0.5)
    rows = []
    for one in e:
        row = weight @ (one - sum(dot(one, done) * done for done in u))
        for i, o, b, t in zip(i_star, o_star, bias, temperature, strict=True):
            row = row + o / (1 + np.exp(-(dot(i, one) / dot(i, i) - b) / t))
        rows.append(row + layer.bias.detach().double())
    return torch.stack(rows)


def seen_by_layers(pipe, text, guidance=4.0, **more):
    """What every attn2 makes of a text in a true drawing: K, V [rows, M, d_out], and the mask."""
    layers, found = cross_attentions(pipe.transformer), []
    handles = []
    for layer in layers.values():
        seen = {}
        for side in ("to_k", "to_v"):
            module = getattr(layer, side)
            handles.append(
                module.register_forward_hook(
                    lambda _, __, out, seen=seen, side=side: seen.update({side: out.detach()})
                )
            )
        found.append(seen)
    draw(pipe, text, steps=1, guidance_scale=guidance, **more)
    for handle in handles:
        handle.remove()
    return [(seen["to_k"], seen["to_v"]) for seen in found]


def test_all_layers_are_eq_4_of_what_they_really_read(pipe, backbone, teddy, brew):
    """Two concepts of different bias, in a drawing with guidance: e, e_super and every K and V are
    recomputed by hand, of the prompt and of the negative one.
    """
    words, gates = {"teddy": "toy", "brew": "teapot"}, ([0.55, 0.7], [0.1, 0.15])
    i_star = torch.stack([teddy.i_star, brew.i_star])
    vectors = {"teddy": teddy.embedding, "brew": brew.embedding}
    e, mask = by_hand(pipe, TEXT, words, vectors)
    against, _ = by_hand(pipe, "red snow", {}, negative=True)
    assert e.shape == (300, WIDTH) and 5 < mask.sum() < 40
    supers = []
    for word in words.values():
        found, counts = by_hand(pipe, f"A photo of a {word}", {})
        after = 1 if isinstance(pipe, diffusers.PixArtSigmaPipeline) else 0  # T5 ends with </s>
        supers.append(found[int(counts.sum()) - 1 - after])
    both = {"teddy": teddy, "brew": brew}
    with load_concepts(pipe, both, bias={"teddy": 0.55, "brew": 0.7}, temperature={"teddy": 0.1}):
        seen = seen_by_layers(pipe, TEXT, negative_prompt="Red snow")
    layers = cross_attentions(pipe.transformer)
    assert len(seen) == len(layers) == 3
    few = slice(0, 30)  # of 300 tokens, most of them padding
    for n, (layer, (keys, values)) in enumerate(zip(layers.values(), seen, strict=True)):
        assert layer.to_k.bias.abs().max() > 1e-2
        o_v = torch.stack([teddy.o_v[n], brew.o_v[n]])
        o_k = torch.stack(supers).double() @ layer.to_k.weight.detach().double().T
        for row, read in ((1, e), (0, against)):
            for side, found, o_star in (("to_v", values, o_v), ("to_k", keys, o_k)):
                plain = getattr(layer, side)
                expected = eq_4(read[few], plain, i_star, o_star, backbone.c_inv, *gates)
                torch.testing.assert_close(found[row, few].double(), expected, rtol=1e-4, atol=1e-4)


def test_global_lock_takes_all_keys_from_the_super_categorys_prompt(pipe, teddy):
    text, vectors = "A {teddy} reading a book", {"teddy": teddy.embedding}
    plain, _ = by_hand(pipe, text, {"teddy": "toy"})
    own, _ = by_hand(pipe, text, {"teddy": "toy"}, vectors)
    assert (plain - own).norm() > 1e-3 * plain.norm()
    with load_concepts(pipe, {"teddy": teddy}, "global"):
        locked = seen_by_layers(pipe, text)
    with load_concepts(pipe, {"teddy": teddy}, "local"):
        local = seen_by_layers(pipe, text)
    for layer, found, other in zip(
        cross_attentions(pipe.transformer).values(), locked, local, strict=True
    ):
        expected = layer.to_k(plain).detach()
        torch.testing.assert_close(found[0][1], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[1], other[1])
        assert (found[0] - other[0]).abs().max() > 1e-3


@pytest.mark.parametrize("lock", ["local", "global"])
def test_batches_and_repeats_change_nothing_for_one_image(pipe, teddy, brew, lock):
    prompts = ["A {teddy} on the beach", "a photo of a cat", "A {brew} and a {teddy}, in the snow"]
    against = ["red", "blue", "gold {brew}"]
    with load_concepts(pipe, {"teddy": teddy, "brew": brew}, lock, bias=0.5):
        together = draw(pipe, prompts, negative_prompt=against)
        for n, (prompt, negative) in enumerate(zip(prompts, against, strict=True)):
            seeds = {"generator": None}
            alone = pipe(
                prompt, negative_prompt=negative, num_inference_steps=2, output_type="np",
                height=together.shape[1], width=together.shape[2], use_resolution_binning=False,
                **seeds | {"generator": torch.Generator().manual_seed(n)},
            ).images  # fmt: skip
            assert np.abs(alone[0] - together[n]).max() < 2 / 255
        twice = draw(pipe, prompts[0], negative_prompt=against[0], num_images_per_prompt=2)
        assert np.abs(twice[0] - together[0]).max() < 2 / 255
    assert np.isfinite(together).all()


@pytest.mark.parametrize("lock", ["local", "global"])
def test_bit_for_bit_restored(pipe, teddy, lock):
    before, modules = states(pipe), dict(pipe.transformer.named_modules())
    image = draw(pipe, "A toy on the beach")
    with load_concepts(pipe, {"teddy": teddy}, lock):
        edited = draw(pipe, "A {teddy} on the beach")
        assert before.keys() == states(pipe).keys()
    assert np.abs(edited - image).max() > 1e-3
    after = states(pipe)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert dict(pipe.transformer.named_modules()) == modules and "encode_prompt" not in vars(pipe)
    assert not any(m._forward_pre_hooks for m in (pipe.text_encoder, *modules.values()))
    assert np.array_equal(draw(pipe, "A toy on the beach"), image)
    with pytest.raises(RuntimeError, match="inside"), load_concepts(pipe, {"teddy": teddy}, lock):
        raise RuntimeError("inside")
    assert np.array_equal(draw(pipe, "A toy on the beach"), image)


def test_no_guidance_and_encodings_from_outside(pipe, teddy):
    with load_concepts(pipe, {"teddy": teddy}):
        usual = draw(pipe, "A {teddy}", guidance_scale=4.0)
        told = signature(type(pipe).__call__).parameters
        instruction = told.get("complex_human_instruction")
        how = {"complex_human_instruction": instruction.default} if instruction else {}
        found = pipe.encode_prompt("A {teddy}", True, device="cpu", **how)
        names = [f"{prefix}prompt_{part}" for prefix in ("", "negative_")
                 for part in ("embeds", "attention_mask")]  # fmt: skip
        given = dict(zip(names, found, strict=True))
        more = {} if instruction is None else {"complex_human_instruction": None}
        again = draw(pipe, None, negative_prompt=None, guidance_scale=4.0, **given, **more)
        assert np.abs(again - usual).max() < 1e-5
        assert np.isfinite(draw(pipe, "A {teddy}", guidance_scale=1.0)).all()
    with (
        load_concepts(pipe, {"teddy": teddy}, "global"),
        pytest.raises(UserError, match="needs the prompt itself"),
    ):
        draw(pipe, None, negative_prompt=None, **given)


def test_c_is_of_the_tokens_that_count_behind_the_projection(pipe, backbone):
    total, tokens = 0.0, 0
    for caption in CAPTIONS:
        e, mask = by_hand(pipe, caption, {})
        real = e[mask.bool()].double()
        total, tokens = total + real.T @ real, tokens + len(real)
    found = read_covariance(backbone.place / FILE)
    assert found.tokens == tokens and found.total.shape == (WIDTH, WIDTH)
    torch.testing.assert_close(found.total, total, rtol=1e-4, atol=1e-4)


def test_the_file_has_the_words_width_and_the_encodings(pipe, teddy, tmp_path):
    path = tmp_path / "teddy.safetensors"
    teddy.save(path, torch.float32)
    again = Concept.load(path)
    assert (len(again.embedding), len(again.i_star)) == (TEXT_WIDTH, WIDTH)
    assert again.header()["version"] == "4" and again.names == teddy.names
    assert again.names[0] == "transformer_blocks.0.attn2"
    assert all(torch.equal(a, b) for a, b in zip(again.o_v, teddy.o_v, strict=True))
    with load_concepts(pipe, {"teddy": teddy}):
        drawn = draw(pipe, "A {teddy}")
    with load_concepts(pipe, {"teddy": path}):
        assert np.array_equal(draw(pipe, "A {teddy}"), drawn)
    damaged = path.read_bytes().replace(f"n[{WIDTH}]".encode(), f"n[{WIDTH + 1}]".encode())
    damaged = damaged.replace(f"m[{WIDTH}]".encode(), f"m[{WIDTH + 1}]".encode())
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="i_star has the shape"):
        Concept.load(path)


def test_the_digest_is_of_text_encoder_and_projection(backbone, teddy, caplog):
    digest, maker = backbone.text_digest, MAKERS[backbone.name]
    assert text_digest_of_files(backbone.place) is None  # only loading tells
    for part in ("text_encoder", "transformer"):
        other = maker()
        module = getattr(other, part)
        if part == "transformer":
            module = module.caption_projection.linear_1
        with torch.no_grad():
            next(module.parameters())[0].mul_(-1)
        from perfusion_core.text_encoders import text_encoders

        assert text_encoders(other).digest() != digest
        with load_concepts(other, {"teddy": teddy}, c_inv=backbone.c_inv, force=True):
            pass
        assert "for another text encoder of the same shape" in caplog.text
        caplog.clear()
    other = maker()
    with torch.no_grad():
        other.transformer.proj_out.weight.mul_(-1)
    assert text_encoders(other).digest() == digest


def test_keys_follow_an_adapter_on_the_text_encoder(backbone, teddy):
    """It comes inside the block: the super-category's key is then that of the adapted encoder."""
    from peft import LoraConfig, inject_adapter_in_model

    pipe = MAKERS[backbone.name]()
    plain = backbone.text.super_encoding("toy")
    target = ["q", "v"] if backbone.name == "pixart" else ["q_proj", "v_proj"]
    with load_concepts(pipe, {"teddy": teddy}, c_inv=backbone.c_inv):
        config = LoraConfig(target_modules=target, init_lora_weights=False)
        inject_adapter_in_model(config, pipe.text_encoder)
        pipe.encode_prompt("A {teddy}", False, device="cpu")
        keys = next(iter(cross_attentions(pipe.transformer).values())).to_k.e_super[0]
        now, counts = by_hand(pipe, "A photo of a toy", {})
    place = int(counts.sum()) - (2 if backbone.name == "pixart" else 1)
    torch.testing.assert_close(keys, now[place])
    assert (now[place] - plain).norm() > 1e-3 * plain.norm()


def test_where_a_word_stands(pipe, teddy):
    told = signature(type(pipe).__call__).parameters.get("complex_human_instruction")
    how = {} if told is None else {"complex_human_instruction": told.default}
    with load_concepts(pipe, {"teddy": teddy}):
        for text in ("{teddy}", "{teddy} on a beach", "A {teddy}, red", "  A PHOTO of a {teddy} "):
            pipe.encode_prompt(text, False, device="cpu", **how)
        for text in ("x{teddy}", "a {teddy}s", "a {teddy}ish cat"):
            with pytest.raises(UserError, match="has to stand as a word of its own"):
                pipe.encode_prompt(text, False, device="cpu")
        with pytest.raises(UserError, match="is cut off"):
            pipe.encode_prompt("cat " * 320 + "{teddy}", False, device="cpu")
        with pytest.raises(UserError, match="is cut off"):
            pipe.encode_prompt("a red cat {teddy}", False, device="cpu", max_sequence_length=4)
    many = replace(teddy, super_category="zebra")
    with pytest.raises(UserError, match=r"'zebra' is [56] tokens"):
        load_concepts(pipe, {"teddy": many}).__enter__()


def test_letters_of_a_name_that_come_past_the_pipeline(pipe, backbone, teddy):
    beside = type(pipe)(**pipe.components)
    with load_concepts(pipe, {"Teddy": teddy}):
        with pytest.raises(UserError, match="as mere letters"):
            draw(beside, "A {Teddy} on the beach")
        assert np.isfinite(draw(pipe, "A {Teddy} on the beach")).all()


def test_refusals(pipe, backbone, teddy):
    with pytest.raises(UserError, match="leave tokens out"):
        load_concepts(pipe, {"teddy": teddy}, tokens=True).__enter__()
    with pytest.raises(UserError, match="reads no pooled text"):
        load_concepts(pipe, {"teddy": teddy}, pooled="super").__enter__()
    with pytest.raises(UserError, match="was made for another model"):
        load_concepts(make_pipe(), {"teddy": teddy}).__enter__()
    other = make_sana() if backbone.name == "pixart" else make_pixart()
    with pytest.raises(UserError, match="was made for another model"):
        load_concepts(other, {"teddy": teddy}).__enter__()
    for part in ("text_encoder", "tokenizer", "transformer"):
        kept = getattr(pipe, part)
        setattr(pipe, part, None)
        with pytest.raises(UserError, match=f"has no {part}"):
            load_concepts(pipe, {"teddy": teddy}).__enter__()
        setattr(pipe, part, kept)
    with load_concepts(pipe, {"teddy": teddy}):
        kept, pipe.transformer = pipe.transformer, MAKERS[backbone.name](seed=3).transformer
        with pytest.raises(UserError, match=r"pipe\.transformer is another one"):
            pipe.encode_prompt("A {teddy}", False, device="cpu")
        pipe.transformer = kept
        with pytest.raises(UserError, match="one negative prompt or as many, not 2"):
            pipe.encode_prompt(["A {teddy}"] * 3, True, ["red"] * 2, device="cpu")


def generate(backbone, out, *words):
    few = ["-n", "1", "--steps", "1", "--device", "cpu", "--out", str(out)]
    assert run(["generate", *words, "--backbone", str(backbone.place), *few]) == 0
    return (out / "0.png").read_bytes()


def test_generate_draws_a_concept_in_sides_of_whole_patches(backbone, teddy, tmp_path):
    teddy.save(tmp_path / "teddy.safetensors")
    concept = ["--concept", f"teddy={tmp_path / 'teddy.safetensors'}"]
    drawn = generate(backbone, tmp_path / "a", "a {teddy} on the lake", *concept)
    assert drawn != generate(backbone, tmp_path / "b", "a toy on the lake")
    step = {"pixart": 4, "sana": 2}[backbone.name]
    size = f"{SIZE[backbone.name] + step // 2}x16"
    with pytest.raises(UserError, match=f"sides that are multiples of {step} pixels"):
        generate(backbone, tmp_path / "c", "a cat", "--size", size)


def test_what_is_cut_off_a_prompt_is_told(backbone, capsys, tmp_path):
    """Where the last word changes what the pipeline encodes, it is read."""

    def is_read(words, negative):
        told = {"do_classifier_free_guidance": False, "device": "cpu"}
        told |= backbone.text.reading(negative)
        last = [backbone.pipe.encode_prompt(f"{words} {one}", **told)[0] for one in ("red", "toy")]
        return not torch.equal(*last)

    for negative in (False, True):
        counts = [n for n in range(294, 302) if not is_read(" ".join(["cat"] * n), negative)]
        most = counts[0]  # words that are read
        assert counts == list(range(most, 302)) and most > 294
        words = " ".join(["Cat"] * (most - 1))
        assert backbone.text.unread(f"{words} Red", negative) == ""
        assert backbone.text.unread(f"{words} Red toy, a dog ", negative) == "toy, a dog"
    words += " cat a dog on the lake"
    generate(backbone, tmp_path, words)
    told = capsys.readouterr().err
    assert told.count("the prompt is longer than the text encoder reads; not drawn: '") == 1
    assert "on the lake'" in told and "negative" not in told


def test_a_caption_that_would_be_cleaned_is_refused(pipe, teddy, monkeypatch):
    """bs4, which cleans, is in few environments: here something else that rewrites a prompt."""
    stock = type(pipe)._text_preprocessing

    def cleaning(self, text, clean_caption=False):
        texts = stock(self, text, False)
        return [one.replace("&", "and") for one in texts] if clean_caption else texts

    monkeypatch.setattr(type(pipe), "_text_preprocessing", cleaning)
    with load_concepts(pipe, {"teddy": teddy}):
        assert np.isfinite(draw(pipe, "A {teddy} and a cat", clean_caption=True)).all()
        with pytest.raises(UserError, match="pass clean_caption=False"):
            draw(pipe, "a cat & a {teddy}", clean_caption=True)
        pipe.encode_prompt("a cat & a {teddy}", False, device="cpu")


def test_pipelines_that_encode_prompts_otherwise_are_refused(tmp_path):
    sana = make_sana()
    sprint = diffusers.SanaSprintPipeline(**sana.components)
    with pytest.raises(UserError, match="SanaSprintPipeline encodes prompts in a way of its own"):
        load_concepts(sprint, {}).__enter__()
    sprint.save_pretrained(tmp_path / "sprint")
    with pytest.raises(UserError, match="is one of a SanaSprintPipeline, which is trained"):
        Backbone.open(tmp_path / "sprint", device="cpu")
