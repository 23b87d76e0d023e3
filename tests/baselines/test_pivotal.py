"""Pivotal tuning: words that stay after a while, both files in stock diffusers, several concepts,
and other files named in a sentence.
"""

from dataclasses import replace

import pytest
import torch
from baselines_kit import SEEDS, apart, ours, quick_fit, stock_draw, stock_pipe, subject
from safetensors.torch import load_file, save_file

from baselines import pivotal
from perfusion_core import checkpoint
from perfusion_core.errors import UserError
from perfusion_core.sampling import sample
from perfusion_core.subject import Fitted

LORA, WORDS = "teddy_lora.safetensors", "teddy_emb.safetensors"


@pytest.fixture(scope="module")
def fits(tiny_backbone, tmp_path_factory):
    """Of two concepts."""
    made = tmp_path_factory.mktemp("pivotal")
    return {
        "teddy": quick_fit("pivotal", tiny_backbone, made / "teddy"),
        "brew": quick_fit("pivotal", tiny_backbone, made / "brew", subject("brew", "teapot")),
    }


# ---- the pivot ----


def short(**changes):
    return replace(pivotal.MINIATURE, **{"steps": 4, "word_steps": 2, "lr": 0.1} | changes)


def trained(backbone, out, config, **more):
    pivotal.fit(backbone, subject(), config, out, seed=3, **more)
    return load_file(out / WORDS)["<teddy>"], load_file(out / LORA)


def pulled(backbone, rows, steps):
    """What so many pulls towards the table's spread leave, in float64."""
    table = backbone.text_encoder.get_input_embeddings().weight.double().numpy()
    found = rows.double().numpy()
    for _ in range(steps):
        found = found * (table.std(ddof=1) / found.std(ddof=1)) ** 0.1
    return torch.from_numpy(found)


def test_words_learn_no_more_after_their_steps_and_matrices_go_on(tiny_backbone, tmp_path):
    start = torch.stack(pivotal.new_vectors(tiny_backbone, 2, seed=3)).detach()
    words, matrices = trained(tiny_backbone, tmp_path, short(), keep=(1, 2))
    first, kept = (load_file(tmp_path / f"step-{n}" / WORDS)["<teddy>"] for n in (1, 2))
    wanted = pulled(tiny_backbone, kept, short().steps - 2)
    assert torch.allclose(words.double(), wanted, rtol=1e-5, atol=0)
    ratio = kept / first
    assert ratio.max() - ratio.min() > 1e-3 and not torch.equal(first, start)
    before = load_file(tmp_path / "step-2" / LORA)
    assert before.keys() == matrices.keys()
    assert not any(torch.equal(before[name], matrices[name]) for name in matrices)


def test_words_that_are_never_trained_are_noise_of_the_seed(tiny_backbone, tmp_path):
    words, _ = trained(tiny_backbone, tmp_path, short(word_steps=0))
    one, other = (torch.stack(pivotal.new_vectors(tiny_backbone, 2, seed=n)) for n in (3, 4))
    wanted = pulled(tiny_backbone, one.detach(), short().steps)
    assert torch.allclose(words.double(), wanted, rtol=1e-5, atol=0)
    assert not torch.allclose(words, other, rtol=0.1)


def test_killed_behind_the_pivot_and_resumed_gives_the_same_files(
    tiny_backbone, tmp_path, monkeypatch
):
    whole = trained(tiny_backbone, tmp_path / "whole", short())
    begin = checkpoint.Checkpoint.__init__
    monkeypatch.setattr(
        checkpoint.Checkpoint, "__init__", lambda self, *args: begin(self, *args, seconds=0.0)
    )

    def killer(step, *_):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tiny_backbone, tmp_path / "again", short(), progress=killer)
    done = []
    trained(tiny_backbone, tmp_path / "again", short(), progress=lambda step, *_: done.append(step))
    assert done == [4]
    for name in (LORA, WORDS):
        files = [tmp_path / folder / name for folder in ("whole", "again")]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert torch.equal(whole[0], load_file(tmp_path / "again" / WORDS)["<teddy>"])


def test_one_word_or_three(tiny_backbone, tmp_path):
    """As many vectors in the file, which stock diffusers writes behind one another."""
    fitted = quick_fit("pivotal", tiny_backbone, tmp_path, words=3)
    assert load_file(tmp_path / WORDS)["<teddy>"].shape == (3, 32)
    with pivotal.apply(tiny_backbone, {"teddy": fitted}, {}) as write:
        assert write("A {teddy}!") == "A {teddy 1} {teddy 2} {teddy 3} toy!"
        theirs = stock_draw(opened(tiny_backbone, [fitted.folder]), tiny_backbone, "A <teddy> toy")
        mine = sample(tiny_backbone, write("A {teddy}"), SEEDS, steps=5)
    assert apart(mine, theirs) <= 1


# ---- several concepts ----


def opened(backbone, folders):
    """Stock diffusers with the files of these folders."""
    pipe = stock_pipe(backbone)
    for number, folder in enumerate(folders):
        [lora], [words] = folder.glob("*_lora.safetensors"), folder.glob("*_emb.safetensors")
        pipe.load_lora_weights(folder, weight_name=lora.name, adapter_name=f"of_{number}")
        pipe.load_textual_inversion(words)
    pipe.set_adapters([f"of_{number}" for number in range(len(folders))])
    return pipe


def test_several_concepts_are_drawn_as_stock_diffusers_draws_them(tiny_backbone, fits):
    pipe = opened(tiny_backbone, [fitted.folder for fitted in fits.values()])
    theirs = stock_draw(pipe, tiny_backbone, "A <teddy> toy next to a <brew> teapot")
    together = ours("pivotal", tiny_backbone, fits, "A {teddy} next to a {brew}")
    assert apart(together, theirs) <= 1
    for name, fit in fits.items():
        assert apart(ours("pivotal", tiny_backbone, {name: fit}, f"A {{{name}}}"), together) > 10


def test_it_is_found_under_another_name(tiny_backbone, fits):
    """The concept is called in a prompt as it is given, whatever its files are called."""
    plain = ours("pivotal", tiny_backbone, {"teddy": fits["teddy"]}, "A {teddy}")
    other = ours("pivotal", tiny_backbone, {"bear": fits["teddy"]}, "A {bear}")
    assert apart(plain, other) == 0


# ---- what is refused ----


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rank": 0}, "^rank=0: at least 1 is needed"),
        ({"words": 0}, "^words=0: at least 1 is needed"),
        (
            {"words": 90},
            "^words=90: at most 70 is allowed, because CLIP reads 77 tokens",
        ),
        ({"word_steps": -1}, "^word_steps=-1: at least 0 is needed"),
    ],
)
def test_recipes_that_cannot_be(change, says, tiny_backbone, tmp_path):
    with pytest.raises(UserError, match=says):
        pivotal.fit(tiny_backbone, subject(), short(**change), tmp_path, seed=0)


WRONG = {
    "no LoRA": (LORA, None, r"has 0 files \*_lora.safetensors, and one is wanted"),
    "no words": (WORDS, None, r"has 0 files \*_emb.safetensors, and one is wanted"),
    "a textual inversion": (
        LORA,
        lambda one: {"<teddy>": torch.ones(32)},
        "its 1 keys cannot be used: <teddy>; only LoRA",
    ),
    "a LoRA of another model": (
        LORA,
        lambda one: {name.replace("down_blocks.0", "down_blocks.7"): one[name] for name in one},
        "has no layers for .* of its keys: .*it was trained on another model",
    ),
    "a LoRA without one layer": (
        LORA,
        lambda one: {name: one[name] for name in one if "mid_block.attentions.0." not in name},
        "has no unet.mid_block.*to_.*, which pivotal on the backbone .* wants",
    ),
    "words of another width": (
        WORDS,
        lambda one: {"<teddy>": torch.zeros(2, 16)},
        r"<teddy> has the shape \(2, 16\), and the backbone .* takes 1 to 30 vectors of 32",
    ),
    "words of two encoders": (
        WORDS,
        lambda one: {"clip_l": torch.zeros(2, 32), "clip_g": torch.zeros(2, 64)},
        "it was made for Stable Diffusion XL, which this backbone is not",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_another_file_is_one_sentence(what, tiny_backbone, fits, tmp_path):
    file, change, says = WRONG[what]
    for name in (LORA, WORDS):
        tensors = load_file(fits["teddy"].folder / name)
        if name != file:
            save_file(tensors, tmp_path / name)
        elif change:
            save_file(change(tensors), tmp_path / name)
    with (
        pytest.raises(UserError, match=says) as caught,
        pivotal.apply(tiny_backbone, {"teddy": Fitted(tmp_path, "toy")}, {}),
    ):
        pytest.fail("it was applied")
    assert "\n" not in str(caught.value)


def test_two_files_of_a_kind_are_one_too_many(tiny_backbone, fits, tmp_path):
    for name in (LORA, WORDS, f"other_{LORA}"):
        source = name.removeprefix("other_")
        save_file(load_file(fits["teddy"].folder / source), tmp_path / name)
    with (
        pytest.raises(UserError, match=r"has 2 files \*_lora.safetensors, and one is wanted"),
        pivotal.apply(tiny_backbone, {"teddy": Fitted(tmp_path, "toy")}, {}),
    ):
        pytest.fail("it was applied")
