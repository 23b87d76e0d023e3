"""ClassDiffusion: Custom Diffusion without class images, its word kept near its super-category."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from baselines_kit import apart, page_tells, stock_draw, stock_pipe, subject
from safetensors.torch import load_file, save_file
from test_formats import BASE, told
from torch.nn.functional import cosine_similarity

from baselines import classdiffusion, custom_diffusion
from baselines.classdiffusion import MINIATURE, Config, distance
from baselines.custom_diffusion_student import FILE, TOKEN, load
from baselines.parts import stamps
from perfusion_core import training
from perfusion_core.backbone import cross_attentions
from perfusion_core.errors import UserError
from perfusion_core.prompts import Word
from perfusion_core.sampling import sample
from perfusion_core.subject import Fitted
from perfusion_core.training import weighted_loss

QUICK = replace(MINIATURE, steps=6, batch=4, lr=0.1)
TEXT, KIND = "a photo of a {teddy} toy", "a photo of a toy"


def fit(backbone, out, config=QUICK, who=None, **more):
    about = classdiffusion.fit(backbone, who or subject(), config, out, seed=7, **more)
    return Fitted(out, (who or subject()).super_category), about


@pytest.fixture(scope="module")
def fitted(tiny_backbone, tmp_path_factory):
    return fit(tiny_backbone, tmp_path_factory.mktemp("classdiffusion"))


class Handed(Exception):
    """Stops a fit where it would begin to train."""


@pytest.fixture
def handed(monkeypatch, tiny_backbone, tmp_path):
    got = {}

    def catch(backbone, recipe, groups, draw, encode, **more):
        got.update(more, recipe=recipe, groups=groups, draw=draw, encode=encode)
        raise Handed

    def get(**changes):
        monkeypatch.setattr(training, "train", catch)
        with pytest.raises(Handed):
            fit(tiny_backbone, tmp_path, replace(Config(), **changes))
        return got

    return get


def pooled(backbone, text):
    """What transformers itself takes at the end token."""
    ids = backbone.tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        return backbone.text_encoder(ids).pooler_output[0]


def test_it_sees_the_concept_alone_and_trains_k_v_and_one_vector(handed, tiny_backbone):
    got = handed()
    [group] = got["groups"]
    layers = cross_attentions(tiny_backbone.unet).values()
    sides = [tuple(side.weight.shape) for layer in layers for side in (layer.to_k, layer.to_v)]
    assert sorted(tuple(p.shape) for p in group["params"]) == sorted([(32,), *sides])
    assert group["lr"] == 4e-5 and got["recipe"].steps == 500 and got["recipe"].clip == 1.0
    batch = got["draw"](torch.Generator().manual_seed(0))
    assert len(batch.latents) == 4 and batch.prior == 0 and not classdiffusion.PRIOR
    assert all(text.endswith("a photo of a {teddy} toy") for text in batch.texts)
    assert {text.removesuffix(TEXT) for seed in range(20)
            for text in got["draw"](torch.Generator().manual_seed(seed)).texts} == {
        "", "very small ", "a far away ", "zoomed in ", "close up "}  # fmt: skip


def test_its_error_is_summed_over_channels_and_averaged_over_what_is_valid(handed):
    """As train_class_diffusion.py has it; the term's weight belongs to that. By loops."""
    batch = handed(batch=8)["draw"](torch.Generator().manual_seed(3))
    rng = torch.Generator().manual_seed(4)
    predicted, target = (torch.randn(8, 4, 8, 8, generator=rng) for _ in range(2))
    valid = batch.mask > 0
    assert 0 < valid.float().mean() < 1
    rows = []
    for n in range(8):
        cells = [(y, x) for y in range(8) for x in range(8) if valid[n, 0, y, x]]
        error = (predicted[n].double() - target[n].double()) ** 2
        rows.append(sum(error[:, y, x].sum().item() for y, x in cells) / len(cells))
    found = weighted_loss(predicted, target, batch.mask, batch.prior, 1.0)
    assert found.item() == pytest.approx(np.mean(rows), rel=1e-5)


def test_the_distance_is_one_minus_the_cosine_at_the_end_token(tiny_backbone):
    """The word starts as `ktn`, which the tokenizer knows: against transformers' pooled output."""
    table = tiny_backbone.text_encoder.get_input_embeddings().weight
    [token] = tiny_backbone.tokenizer("ktn", add_special_tokens=False).input_ids
    vector = torch.nn.Parameter(table[token].clone())
    far = distance(tiny_backbone, TEXT, KIND, {"teddy": Word("a", vector)})
    mine, kind = pooled(tiny_backbone, "a photo of a ktn toy"), pooled(tiny_backbone, KIND)
    expected = 1 - cosine_similarity(mine.double(), kind.double(), dim=0)
    assert far().item() == pytest.approx(expected.item(), rel=1e-4) and expected > 1e-3
    far().backward()
    assert vector.grad.abs().sum() > 0
    with torch.no_grad():
        before = far()
        vector.copy_(table[tiny_backbone.tokenizer("dog", add_special_tokens=False).input_ids[0]])
        after = far()
    assert after != before, "it follows the word"


def test_the_term_stands_in_the_loss_once_a_step(tiny_backbone, tmp_path):
    """Also where a step has several micro-batches."""
    table = tiny_backbone.text_encoder.get_input_embeddings().weight
    vector = table[tiny_backbone.tokenizer("ktn", add_special_tokens=False).input_ids[0]]
    far = distance(tiny_backbone, TEXT, KIND, {"teddy": Word("a", vector)})().item()
    for accumulate in (1, 2):
        first = []
        for weight in (0.0, 3.0):
            config = replace(QUICK, steps=1, class_weight=weight, accumulate=accumulate)
            first += fit(tiny_backbone, tmp_path / f"{accumulate}-{weight}", config)[1]["losses"]
        assert first[1] - first[0] == pytest.approx(3 * far, rel=1e-3)


def test_the_term_keeps_the_word_near_its_class(tiny_backbone, tmp_path):
    """What the method claims: semantics stay near the class."""
    left = {}
    for name, weight in (("without", 0.0), ("with", 100.0)):
        config = replace(QUICK, steps=20, lr=0.01, class_weight=weight)
        made, _ = fit(tiny_backbone, tmp_path / name, config)
        words = {"teddy": Word("a", load(made.folder)[1])}
        left[name] = distance(tiny_backbone, TEXT, KIND, words)().item()
    assert left["with"] < left["without"] / 2


def test_its_files_open_in_diffusers(fitted, tiny_backbone):
    made, about = fitted
    pipe = stock_pipe(tiny_backbone)
    plain = stock_draw(pipe, tiny_backbone, BASE)
    pipe.unet.load_attn_procs(made.folder, weight_name=FILE, _pipeline=pipe)
    pipe.load_textual_inversion(made.folder / f"{TOKEN}.safetensors")
    theirs = stock_draw(pipe, tiny_backbone, "A <new1> toy on the beach")
    with classdiffusion.apply(tiny_backbone, {"teddy": made}, {}) as write:
        ours = sample(tiny_backbone, write("A {teddy} on the beach"), [3, 4], steps=5)
    assert apart(ours, theirs) <= 1 and apart(plain, theirs) > 10
    files = [load_file(path) for path in made.folder.glob("*.safetensors")]
    assert about["trainable"] == sum(t.numel() for tensors in files for t in tensors.values())


def test_two_concepts_in_one_picture(fitted, tiny_backbone, tmp_path):
    """Merged as Custom Diffusion's are: another picture than with either alone."""
    first, twin = fitted[0], fit(tiny_backbone, tmp_path, who=subject("twin", "chair"))[0]
    drawn = []
    for fits in ({"teddy": first}, {"twin": twin}, {"teddy": first, "twin": twin}):
        with classdiffusion.apply(tiny_backbone, fits, {}) as write:
            text = "A photo of " + " and ".join(f"{{{name}}}" for name in fits)
            drawn.append(sample(tiny_backbone, write(text), [3], steps=5))
    assert len({picture.tobytes() for picture in drawn}) == 3


@pytest.mark.parametrize("method", [classdiffusion, custom_diffusion])
def test_files_of_others_are_a_sentence(method, fitted, tiny_backbone, tmp_path):
    made, before = load_file(fitted[0].folder / FILE), stamps(tiny_backbone)
    word = load_file(fitted[0].folder / f"{TOKEN}.safetensors")
    first = next(name for name in made if name.endswith("to_k_custom_diffusion.weight"))

    def refused(sides, vectors) -> str:
        if sides:
            save_file(sides, tmp_path / FILE)
        else:
            (tmp_path / FILE).write_bytes(b"torn")
        save_file(vectors, tmp_path / f"{TOKEN}.safetensors")
        fits = {"teddy": Fitted(tmp_path, "toy")}
        with pytest.raises(UserError) as caught, method.apply(tiny_backbone, fits, {}):
            pass
        assert stamps(tiny_backbone) == before and "\n" not in str(caught.value)
        return str(caught.value)

    fewer = {name: one for name, one in made.items() if name != first}
    wider = made | {first: torch.ones(3, 4)}
    on = f"{method.NAME} on the backbone {tiny_backbone.name}"
    assert f"has no {first}, which {on} wants" in refused({"lora": torch.ones(2)}, word)
    assert f"has no {first}, which {on} wants" in refused(fewer, word)
    assert f"{first} has the shape (3, 4), and {on} wants" in refused(wider, word)
    assert "holds to_q, which" in refused(made | {"to_q": torch.ones(2)}, word)
    assert "has the shape (768,)" in refused(made, {TOKEN: torch.ones(768)})
    assert f"has no {TOKEN}, which" in refused(made, {"a": word[TOKEN], "b": word[TOKEN] + 1})
    broken = made | {first: made[first] * float("nan")}
    assert f"numbers that are not finite, in {first}" in refused(broken, word)
    assert "is no safetensors file, or it is damaged" in refused({}, word)


def test_its_size_on_stable_diffusion():
    """The files of Custom Diffusion, which are measured."""
    assert told("classdiffusion") == told("cd")


def test_the_page_tells_every_number_of_its_recipe():
    page_tells("classdiffusion", Config(), MINIATURE)
