"""The compared methods on a backbone with two text encoders, as Stable Diffusion XL has: what they
train, their files in diffusers' own pipelines, and the contract.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from baselines_kit import SEEDS, apart, module, ours, prior, quick_fit, stock_draw, subject
from diffusers import (
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from peft import PeftModel
from safetensors.torch import load_file
from xl_kit import WIDTHS, load_word, save_xl, xl_stock

from baselines import custom_diffusion_student, dreambooth, lora, textual_inversion
from baselines.adapter import EMBEDDING, LORA, TOKEN, Told, proven
from baselines.adapter import PEFT as ELSEWHERE
from baselines.parts import FrozenText, LearnedText
from benchmarks.contract import check_method
from benchmarks.planning import methods
from perfusion_core import Backbone, UserError
from perfusion_core.backbone import cross_attentions
from perfusion_core.noise_levels import levels_of
from perfusion_core.prompts import Word
from perfusion_core.sampling import sample
from perfusion_core.subject import Fitted
from perfusion_core.training import Batch, Recipe, batch_losses, one_step

TEXT = "A {teddy} on the beach"
PEFT = ("dora", "loha", "lokr", "oft")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return save_xl(tmp_path_factory.mktemp("backbones") / "tiny-xl")


@pytest.fixture(scope="module")
def fit_of(backbone, tmp_path_factory):
    """-> the fit of a method, made once."""
    made = {}

    def get(method):
        if method not in made:
            made[method] = quick_fit(method, backbone, tmp_path_factory.mktemp(method))
        return made[method]

    return get


def opened(method, fitted, backbone):
    """diffusers' pipeline with a method's file, and what its prompt says for the concept."""
    pipe, folder = xl_stock(backbone), fitted.folder
    if method == "ti":
        load_word(pipe, folder / textual_inversion.FILE, "<teddy>")
        return pipe, "<teddy>"
    if method == "lora":
        pipe.load_lora_weights(folder)
        return pipe, "sks toy"
    if method == "db":
        pipe.unet = UNet2DConditionModel.from_pretrained(folder / dreambooth.FOLDER)
        return pipe, "sks toy"
    name = custom_diffusion_student.FILE
    pipe.unet.load_attn_procs(folder, weight_name=name, _pipeline=pipe)
    load_word(pipe, folder / f"{custom_diffusion_student.TOKEN}.safetensors", "<new1>")
    return pipe, "<new1> toy"


@pytest.mark.parametrize("method", ["ti", "lora", "db", "cd"])
def test_a_file_opens_in_diffusers_and_draws_the_same(backbone, fit_of, method):
    pipe, said = opened(method, fit_of(method), backbone)
    theirs = stock_draw(pipe, backbone, TEXT.replace("{teddy}", said))
    assert apart(ours(method, backbone, {"teddy": fit_of(method)}, TEXT), theirs) <= 1
    assert apart(stock_draw(xl_stock(backbone), backbone, "A toy on the beach"), theirs) > 10


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("ti", StableDiffusionXLImg2ImgPipeline),
        ("lora", StableDiffusionXLInpaintPipeline),
        ("db", StableDiffusionXLImg2ImgPipeline),
        ("cd", StableDiffusionXLInpaintPipeline),
    ],
)
def test_it_opens_in_the_pipelines_that_start_from_a_picture(backbone, fit_of, method, kind):
    start = np.random.default_rng(0).random((16, 16, 3), dtype=np.float32)
    more = {} if kind is StableDiffusionXLImg2ImgPipeline else {"mask_image": np.ones((16, 16))}

    def drawn(pipe, text):
        this = kind(**{name: part for name, part in pipe.components.items() if part is not None})
        this.set_progress_bar_config(disable=True)
        how = {"strength": 0.9, "num_inference_steps": 3, "output_type": "np", **more}
        noise = torch.Generator().manual_seed(0)
        return this(text, image=start[None], generator=noise, **how).images

    pipe, said = opened(method, fit_of(method), backbone)
    found = drawn(pipe, TEXT.replace("{teddy}", said))
    base = drawn(xl_stock(backbone), "A toy on the beach")
    assert np.isfinite(found).all() and np.abs(found - base).max() > 0.02


@pytest.mark.parametrize("method", ["perfusion", "ti", "lora", "db", "cd", "super", *PEFT])
def test_a_method_keeps_its_contract(backbone, method):
    check_method(methods.load_method(method), backbone, tell=lambda line: None)


def test_ti_learns_a_vector_in_each_encoder(backbone, fit_of):
    first = backbone.text.token_vector("toy").split(WIDTHS)
    learned = load_file(fit_of("ti").folder / textual_inversion.FILE)
    for key, before in zip(("clip_l", "clip_g"), first):
        assert (learned[key][0] - before).norm() > 0.1


def test_cd_starts_from_the_rare_token_of_both_vocabularies(backbone):
    found = custom_diffusion_student.first_vector(backbone)
    rows = [
        reader.model.get_input_embeddings().weight[reader.tokenizer.get_vocab()["ktn</w>"]]
        for reader in backbone.text.readers
    ]
    assert torch.equal(found.detach(), torch.cat(rows).detach())


def test_several_concepts_of_cd_keep_their_own_outputs(backbone, fit_of, tmp_path):
    who = subject("brew", "teapot")
    fits = {"teddy": fit_of("cd"), "brew": quick_fit("cd", backbone, tmp_path, who)}
    own = custom_diffusion_student.load(fits["teddy"].folder)[0]
    with module("cd").apply(backbone, fits, {}) as write, torch.no_grad():
        assert write("{teddy} in a {brew}") == "{teddy} toy in a {brew} teapot"
        encodings = backbone.pipe.encode_prompt("photo of a {teddy} toy", None, "cpu", 1, False)[0]
        mine = encodings[0, 4:7]  # <new1>, the class and the end token
        for name, layer in cross_attentions(backbone.unet).items():
            assert layer.to_v.in_features == sum(WIDTHS)
            torch.testing.assert_close(
                layer.to_v(mine), mine @ own[name][1].T, rtol=1e-3, atol=1e-3
            )
        assert sample(backbone, write("A {teddy} in a {brew}"), SEEDS, steps=2).shape[0] == 2


def test_texts_pool_the_words_themselves(backbone):
    """As a pipeline with a textual inversion does; of frozen texts nothing is learned."""
    word = Word("toy", torch.nn.Parameter(backbone.text.token_vector("toy") + 0.5))
    learned = LearnedText(backbone, {"teddy": word})
    texts = ["a photo of a {teddy}", "the photo of a {teddy}", "a photo of a {teddy}"]
    learned(texts)
    pooled = learned.pooled(texts)
    expected = backbone.text.encode(texts, {"teddy": word}).pooled
    torch.testing.assert_close(pooled, expected)
    assert pooled.requires_grad and not torch.equal(
        pooled, backbone.text.encode(["a photo of a toy"], {}).pooled
    )
    frozen = FrozenText(backbone, ["a photo of sks toy", "a photo of a toy"])
    assert not frozen.pooled(["a photo of a toy"]).requires_grad
    torch.testing.assert_close(
        frozen.pooled(["a photo of a toy"]),
        backbone.text.encode(["a photo of a toy"], {}).pooled,
    )


@pytest.mark.parametrize("parts", [1, 2])
def test_the_gradient_of_a_step_goes_through_encodings_and_pooled_text(backbone, parts):
    """Against one graph from the loss to the vector."""
    vector = torch.nn.Parameter(backbone.text.token_vector("toy") + 0.3)
    learned = LearnedText(backbone, {"teddy": Word("toy", vector)})
    rng = torch.Generator().manual_seed(1)
    texts = ["a photo of a {teddy}", "A photo of {teddy}"]
    batches = [Batch(torch.randn(2, 4, 8, 8, generator=rng), texts) for _ in range(2)]
    levels = levels_of(backbone.scheduler(), backbone.device)
    off = torch.amp.GradScaler("cpu", enabled=False)

    def nothing(encodings):
        pass

    def direct(pooled):
        vector.grad, seeded = None, torch.Generator().manual_seed(2)
        encodings = learned([text for batch in batches for text in batch.texts])
        total = 0.0
        for number, batch in enumerate(batches):
            mine = encodings[2 * number : 2 * number + 2]
            shares = batch_losses(
                backbone, backbone.unet, Recipe(1), batch, mine, nothing, levels, seeded, 1,
                pooled(learned.pooled(batch.texts)),
            )  # fmt: skip
            total = total + sum(shares) / len(batches)
        total.backward()
        return vector.grad.clone()

    whole, without = direct(lambda told: told), direct(torch.Tensor.detach)
    vector.grad = None
    one_step(
        backbone, backbone.unet, Recipe(1), batches, learned, nothing, levels,
        torch.Generator().manual_seed(2), off, parts, learned.pooled,
    )  # fmt: skip
    torch.testing.assert_close(vector.grad, whole, rtol=1e-4, atol=1e-7)
    assert (whole - without).norm() > 1e-3 * whole.norm()


@pytest.mark.parametrize("method", ["cd", "db"])
def test_half_precision_trains_and_draws(backbone, method, tmp_path):
    low = Backbone.open(backbone.place, device="cpu", dtype="bfloat16")
    fitted = quick_fit(method, low, tmp_path, steps=2)
    drawn = ours(method, low, {"teddy": fitted}, TEXT)
    assert apart(drawn, sample(low, "A toy on the beach", SEEDS, steps=5)) > 3


@pytest.mark.parametrize("method", ["perfusion", "ti", "lora", "db", "cd", "dora"])
def test_each_photographs_size_and_cut_are_told(backbone, tmp_path, method):
    """Of the concept's own pictures; class images were drawn whole."""
    seen = []

    def watch(_, __, kwargs):
        seen.append(kwargs["added_cond_kwargs"]["time_ids"])

    frames = torch.tensor([[40, 20, 6, 0], [16, 90, 0, 30], [33, 33, 0, 0]])
    who = replace(subject(), frames=frames, masks=torch.ones(3, 1, 16, 16))
    this = methods.load_method(method)
    config = replace(this.MINIATURE, steps=3, batch=4)
    fresh = backbone.fresh_unet  # db trains a copy

    def watched(*args, **more):
        unet = fresh(*args, **more)
        unet.register_forward_pre_hook(watch, with_kwargs=True)
        return unet

    own = backbone.unet.register_forward_pre_hook(watch, with_kwargs=True)
    vars(backbone)["fresh_unet"] = watched
    try:
        this.fit(backbone, who, config, tmp_path, seed=0, prior=prior())
    finally:
        own.remove()
        del vars(backbone)["fresh_unet"]
    told = torch.cat([one[: len(one) // 2] if this.PRIOR else one for one in seen])
    expected = {(*map(float, frame), 16.0, 16.0) for frame in frames.tolist()}
    assert set(map(tuple, told.tolist())) == expected
    if this.PRIOR:
        class_images = torch.cat([one[len(one) // 2 :] for one in seen])
        assert set(map(tuple, class_images.tolist())) == {(16.0, 16.0, 0.0, 0.0, 16.0, 16.0)}


@pytest.mark.parametrize(
    ("method", "kind", "file"),
    [("lora", LORA, lora.FILE), ("ti", EMBEDDING, textual_inversion.FILE), ("dora", ELSEWHERE, "")],
)
def test_a_fit_given_as_an_adapter_draws_as_the_method(backbone, fit_of, method, kind, file):
    fitted = fit_of(method)
    word = TOKEN if kind == EMBEDDING else "sks toy"
    with proven(backbone, Told("mine", kind, word), fitted.folder / file, "toy"):
        found = sample(backbone, TEXT.replace("{teddy}", word), SEEDS, steps=5)
    assert apart(ours(method, backbone, {"teddy": fitted}, TEXT), found) <= 1


@pytest.mark.parametrize("method", PEFT)
def test_adapters_of_peft_open_by_peft_and_draw_the_same(backbone, fit_of, method):
    pipe = xl_stock(backbone)
    pipe.unet = PeftModel.from_pretrained(pipe.unet, fit_of(method).folder).eval()
    theirs = stock_draw(pipe, backbone, TEXT.replace("{teddy}", "sks toy"))
    assert apart(ours(method, backbone, {"teddy": fit_of(method)}, TEXT), theirs) <= 1


@pytest.mark.parametrize("method", ["pivotal", "xti", "attndreambooth", "classdiffusion"])
def test_methods_of_one_text_encoder_are_refused_in_one_sentence(backbone, method, tmp_path):
    """In training, and for a fit of another backbone; nothing is written."""
    this = methods.load_method(method)
    said = f"{method} reads one text encoder, and the backbone 'tiny-xl'"
    with pytest.raises(UserError, match=said):
        this.fit(backbone, subject(), this.Config(steps=1), tmp_path / "fit", seed=0)
    assert not (tmp_path / "fit").exists()
    fits = {"teddy": Fitted(tmp_path, "toy")}
    with pytest.raises(UserError, match=said), this.apply(backbone, fits, {}):
        pass


def test_class_images_weigh_as_on_one_encoder(backbone, tmp_path):
    """db and cd read the class's text, encoded and pooled, beside the concept's."""
    seen, unet = [], backbone.unet

    def watch(_, __, kwargs):
        seen.append(kwargs["added_cond_kwargs"]["text_embeds"])

    handle = unet.register_forward_pre_hook(watch, with_kwargs=True)
    this = module("cd")
    config = this.Config(steps=1, batch=4, resize=False)
    this.fit(backbone, subject(), config, tmp_path, seed=0, prior=prior())
    handle.remove()
    [pooled] = seen
    expected = backbone.text.encode(["a photo of a toy"], {}).pooled
    torch.testing.assert_close(pooled[2:], expected.expand(2, -1))
    assert not torch.allclose(pooled[:2], expected.expand(2, -1), atol=1e-3)
