"""AttnDreamBooth: three stages in one training, and a word that is attended to like its class."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from baselines_kit import apart, page_tells, stock_draw, stock_pipe, subject
from conftest import stock_attention
from diffusers import UNet2DConditionModel
from run_kit import content
from safetensors.torch import load_file, save_file
from test_formats import BASE, told

from baselines import attndreambooth
from baselines.attndreambooth import FILE, FOLDER, MINIATURE, Config, Watch
from baselines.parts import stamps
from baselines.textual_inversion import first_vector
from perfusion_core import checkpoint, training
from perfusion_core.backbone import cross_attentions
from perfusion_core.errors import UserError
from perfusion_core.memory import Halving
from perfusion_core.sampling import sample
from perfusion_core.subject import Fitted

QUICK = replace(
    MINIATURE, steps=6, word_steps=2, attention_steps=2, batch=4, lr_word=0.3, lr_attention=0.1,
    lr=0.01,
)  # fmt: skip
TEXT = "a photo of a {teddy} toy"


def fit(backbone, out, config=QUICK, **more):
    return attndreambooth.fit(backbone, subject(), config, out, seed=7, **more)


@pytest.fixture(scope="module")
def fitted(tiny_backbone, tmp_path_factory):
    """The quick fit, and its states after each stage."""
    out = tmp_path_factory.mktemp("attndreambooth")
    about = fit(tiny_backbone, out, keep=(2, 4, 5))
    return out, about


def parts(folder, backbone):
    """The word, the cross-attentions and the rest of the U-Net, as a fit left them."""
    unet = load_file(folder / FOLDER / "diffusion_pytorch_model.safetensors")
    across = {name for layer in cross_attentions(backbone.unet) for name in unet if layer in name}
    return (
        load_file(folder / FILE)["<teddy>"],
        {name: unet[name] for name in across},
        {name: tensor for name, tensor in unet.items() if name not in across},
    )


def same(one, other):
    return [name for name in one if torch.equal(one[name], other[name])]


# ---- stages ----


def test_each_stage_changes_its_part_and_no_other(fitted, tiny_backbone):
    folder, about = fitted
    plain = tiny_backbone.unet.state_dict()
    word, across, rest = parts(folder / "step-2", tiny_backbone)
    assert not torch.equal(word, first_vector(tiny_backbone, "toy"))
    assert same(across, plain) == [*across] and same(rest, plain) == [*rest]

    second, across_2, rest_2 = parts(folder / "step-4", tiny_backbone)
    assert torch.equal(word, second) and same(rest_2, plain) == [*rest_2]
    assert len(across_2) > 8 and same(across_2, plain) == []

    third, across_3, rest_3 = parts(folder, tiny_backbone)
    assert torch.equal(word, third) and same(across_3, across_2) == []
    assert len(same(rest_3, plain)) < len(rest_3) / 2  # biases with no gradient stay
    assert about["trainable"] == word.numel() + sum(map(torch.numel, plain.values()))


def test_a_stage_begins_with_a_new_optimizer_and_its_own_rate(fitted, tiny_backbone):
    """AdamW's first step is the rate, whatever the gradient: of a stage that went on with what the
    optimizer knew it would be less or more."""
    folder, _ = fitted
    _, across_2, rest_2 = parts(folder / "step-4", tiny_backbone)
    _, across_3, rest_3 = parts(folder / "step-5", tiny_backbone)
    for before, after in ((across_2, across_3), (rest_2, rest_3)):
        moves = torch.cat(
            [
                (after[name] - tensor * (1 - QUICK.lr * QUICK.weight_decay)).flatten().abs()
                for name, tensor in before.items()
            ]
        )
        whole = (moves > 0.98 * QUICK.lr) & (moves < 1.02 * QUICK.lr)
        assert whole.float().mean() > 0.9 and moves.max() < 1.02 * QUICK.lr


@pytest.mark.parametrize("step", [2, 3, 5])
def test_killed_in_any_stage_it_goes_on_to_the_same_files(
    step, fitted, tiny_backbone, tmp_path, monkeypatch
):
    begin = checkpoint.Checkpoint.__init__
    monkeypatch.setattr(
        checkpoint.Checkpoint, "__init__", lambda self, *args: begin(self, *args, seconds=0.0)
    )

    def killer(now, steps, loss):
        if now == step:
            raise KeyboardInterrupt

    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_backbone, tmp_path, keep=(2, 4, 5), progress=killer)
    fit(tiny_backbone, tmp_path, keep=(2, 4, 5), progress=lambda now, *_: done.append(now))
    assert done == list(range(step, 7)), "the step that was killed had no checkpoint yet"
    assert content(tmp_path) == content(fitted[0])


def test_a_stage_may_be_left_out_and_a_negative_one_is_refused(tiny_backbone, tmp_path):
    config = replace(QUICK, steps=2, word_steps=0, attention_steps=0)
    fit(tiny_backbone, tmp_path, config)
    word, _, rest = parts(tmp_path, tiny_backbone)
    assert torch.equal(word, first_vector(tiny_backbone, "toy"))
    assert len(same(rest, tiny_backbone.unet.state_dict())) < len(rest) / 2
    with pytest.raises(UserError, match=r"^attention_steps=-1: at least 0 is"):
        replace(QUICK, attention_steps=-1)


# ---- the attention in the loss ----


def watched(backbone, unet, texts):
    """The two differences in one U-Net call, and each layer's probabilities by diffusers itself."""
    watch = Watch(list(cross_attentions(unet).values()), 5)
    latents = torch.randn(len(texts), 4, 8, 8, generator=torch.Generator().manual_seed(1))
    encodings, seen = backbone.encode(texts), []

    def see(layer, of_text, probs):
        if of_text:
            seen.append(probs.detach().double().unflatten(0, (len(texts), -1)))

    def call():
        with torch.no_grad():
            unet(latents, 500, encoder_hidden_states=encodings)

    watch.begin()
    call()
    told = watch.apart()
    with stock_attention(unet, see):
        call()
    return told, seen


def test_the_term_is_what_the_probabilities_say(tiny_backbone):
    """Against loops over rows and layers in float64, on probabilities of diffusers' processor."""
    texts = ["a photo of a cat toy", "a photo of a red ball", "a photo of a dog chair"]
    (mean, variance), seen = watched(tiny_backbone, tiny_backbone.fresh_unet(), texts)
    assert len(seen) == len(cross_attentions(tiny_backbone.unet))
    means, variances = [], []
    for probs in seen:  # [n, heads, positions, tokens]
        for row in probs:
            word, kind = (row[:, :, at].flatten().tolist() for at in (5, 6))
            means.append((np.mean(word) - np.mean(kind)) ** 2)
            variances.append((np.var(word, ddof=1) - np.var(kind, ddof=1)) ** 2)
    assert mean.item() == pytest.approx(sum(means) / len(seen), rel=1e-4)
    assert variance.item() == pytest.approx(sum(variances) / len(seen), rel=1e-4)
    assert mean > 0 and variance > 0


def test_the_word_stands_before_its_super_category(tiny_backbone):
    ids = tiny_backbone.tokenizer("a photo of a toy toy").input_ids
    assert ids[5] == ids[6] == tiny_backbone.tokenizer("toy").input_ids[1]


def losses(backbone, out, config, **more):
    return fit(backbone, out, config, **more)["losses"]


def test_the_term_is_added_to_the_loss_with_the_weights_of_the_stage(tiny_backbone, tmp_path):
    """The first step's loss, before anything is learned; the word is its super-category then, but
    stands at another place."""
    still = replace(QUICK, steps=3, word_steps=1, attention_steps=1, lr_word=0, lr_attention=0)
    weights = {"word_mean_weight": 0.0, "word_variance_weight": 0.0, "mean_weight": 0.0,
               "variance_weight": 0.0}  # fmt: skip

    def told(name, **some):
        return np.array(losses(tiny_backbone, tmp_path / name, replace(still, **weights | some)))

    none = told("none")
    for name, stages in (("word_mean_weight", [0]), ("word_variance_weight", [0]),
                         ("mean_weight", [1, 2]), ("variance_weight", [1, 2])):  # fmt: skip
        weight = 1e9 if "variance" in name else 1e3  # attention varies little in a random U-Net
        once, twice = (told(f"{name}-{n}", **{name: n * weight}) for n in (1, 2))
        added = once - none
        assert [n for n in range(3) if added[n] > 1e-5] == stages, name
        np.testing.assert_allclose((twice - none)[stages], 2 * added[stages], rtol=1e-2)


def test_the_term_brings_the_word_near_its_super_category(tiny_backbone, tmp_path):
    """What the method claims: attention of the new word like its class's."""
    config = replace(QUICK, steps=24, word_steps=0, attention_steps=24, lr_attention=0.01)
    left = {}
    for name, weight in (("without", 0.0), ("with", 1e5)):
        fit(tiny_backbone, tmp_path / name, replace(config, mean_weight=weight, variance_weight=0))
        unet = UNet2DConditionModel.from_pretrained(tmp_path / name / FOLDER)
        (mean, _), _ = watched(tiny_backbone, unet, ["a photo of a toy toy"])
        left[name] = mean.item()
    assert left["with"] < left["without"] / 4


@pytest.mark.parametrize("how", ["checkpointing", "parts"])
def test_less_memory_gives_the_same_training(how, fitted, tiny_backbone, tmp_path, monkeypatch):
    config = replace(QUICK, checkpointing=how == "checkpointing")
    if how == "parts":
        begin = Halving.__init__

        def halved(self, *args):
            begin(self, *args)
            self.parts = 2

        monkeypatch.setattr(training, "Halving", type("Halved", (Halving,), {"__init__": halved}))
    found = fit(tiny_backbone, tmp_path, config)
    assert found.get("parts", 1) == (2 if how == "parts" else 1)
    np.testing.assert_allclose(found["losses"][:5], fitted[1]["losses"][:5], rtol=1e-3)


# ---- files ----


def test_its_files_open_in_diffusers(fitted, tiny_backbone):
    folder, pipe = fitted[0], stock_pipe(tiny_backbone)
    plain = stock_draw(pipe, tiny_backbone, BASE)
    pipe.unet = UNet2DConditionModel.from_pretrained(folder / FOLDER)
    pipe.load_textual_inversion(folder / FILE)
    theirs = stock_draw(pipe, tiny_backbone, "A <teddy> toy on the beach")
    fits = {"teddy": Fitted(folder, "toy")}
    with attndreambooth.apply(tiny_backbone, fits, {}) as write:
        assert write("A {teddy} on the beach") == "A {teddy} toy on the beach"
        ours = sample(tiny_backbone, write("A {teddy} on the beach"), [3, 4], steps=5)
    assert apart(ours, theirs) <= 1 and apart(plain, theirs) > 10


def test_two_concepts_are_refused(fitted, tiny_backbone):
    both = {name: Fitted(fitted[0], "toy") for name in ("teddy", "twin")}
    with (
        pytest.raises(UserError, match="so teddy and twin cannot be drawn together"),
        attndreambooth.apply(tiny_backbone, both, {}),
    ):
        pass


def test_its_size_on_stable_diffusion():
    """A U-Net as DreamBooth leaves it, and an embedding as Textual Inversion does."""
    assert told("attndreambooth") == told("db") + told("ti")


def test_the_page_tells_every_number_of_its_recipe():
    page_tells("attndreambooth", Config(), MINIATURE)


def test_files_of_others_are_a_sentence(tiny_backbone, tmp_path):
    before = stamps(tiny_backbone)

    def refused(folder) -> str:
        fits = {"teddy": Fitted(folder, "toy")}
        with pytest.raises(UserError) as caught, attndreambooth.apply(tiny_backbone, fits, {}):
            pass
        assert stamps(tiny_backbone) == before and "\n" not in str(caught.value)
        return str(caught.value)

    assert f"has no {FILE}" in refused(tmp_path)
    save_file({"<teddy>": torch.ones(768)}, tmp_path / FILE)
    assert "<teddy> has the shape (768,), and attndreambooth on the backbone" in refused(tmp_path)
    save_file({"a": torch.ones(32), "b": torch.ones(32)}, tmp_path / FILE)
    assert "has no <name>, which attndreambooth" in refused(tmp_path)
    save_file({"<teddy>": torch.ones(32)}, tmp_path / FILE)
    assert "its unet cannot be opened" in refused(tmp_path)
    plain = tiny_backbone.unet
    other = UNet2DConditionModel.from_config({**plain.config, "cross_attention_dim": 48})
    other.save_pretrained(tmp_path / FOLDER)
    assert "its unet is not shaped like that of the backbone" in refused(tmp_path)
