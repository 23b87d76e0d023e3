"""miniature-xl begins with what the miniature computes, as far as the encodings that it reads tell
it; its second tokenizer, and the photographs of its training.
"""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.miniature.training import networks
from benchmarks.miniature.training.growth import READS, grown_joint
from benchmarks.miniature.training.hyperparameters import (
    JOINT_MINUTES,
    JOINT_STAGES,
    Recipe,
    joint,
)
from benchmarks.miniature.training.joint_text import second_ids, second_tokenizer
from benchmarks.miniature.training.joint_unet import Even, bridge_of
from benchmarks.miniature.training.photographed import (
    FEWEST,
    LARGEST,
    photograph,
    shown,
    sizes_told,
    taken,
)
from benchmarks.miniature.world.instance import stream
from benchmarks.miniature.world.language import caption
from benchmarks.miniature.world.picture import draw_random, render
from benchmarks.paths import miniature_dir
from benchmarks.suite.image_files import frame_of, load_rgb

FIRST, SECOND = networks.TEXT_WIDTH, networks.SECOND_WIDTH


def captions(n):
    rng = stream("test of two encoders")
    return [caption(draw_random(rng), rng) for _ in range(n)]


@pytest.fixture(scope="module")
def old():
    """The miniature's U-Net in float64, whose every layer adds something."""
    torch.manual_seed(0)
    return networks.make_unet().double().eval()


def said(unet, words, **more):
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 16, 16, generator=rng, dtype=torch.float64)
    with torch.no_grad():
        return unet(x, torch.tensor([10, 700]), words, **more).sample


def random_texts(seed=2):
    """What both encoders tell, pooled text and sizes."""
    rng = torch.Generator().manual_seed(seed)
    words = torch.randn(2, 32, FIRST + SECOND, generator=rng, dtype=torch.float64)
    pooled = torch.randn(2, SECOND, generator=rng, dtype=torch.float64)
    sizes = torch.randint(0, 500, (2, 6), generator=rng).double()
    return words, {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes}}


def test_the_grown_unet_computes_what_the_old_one_does_where_it_reads_the_same(old):
    """Whatever the second encoder, the pooled text and the sizes say."""
    unet = networks.make_joint_unet().double().eval()
    grown_joint(unet, old.state_dict(), torch.eye(FIRST), torch.ones(FIRST + SECOND))
    for seed in (2, 3):
        words, more = random_texts(seed)
        wanted = said(old, words[..., :FIRST])
        torch.testing.assert_close(said(unet, words, **more), wanted, rtol=0, atol=1e-12)
    words, more = random_texts()
    assert (said(old, words[..., :FIRST]) - said(old, 2 * words[..., :FIRST])).abs().max() > 1e-3


def test_the_bridge_and_the_sizes_are_multiplied_into_k_and_v(old):
    """Where the last output is a linear map of the penultimate one, nothing is lost."""
    words, more = random_texts()
    rng = torch.Generator().manual_seed(4)
    bridge = torch.randn(FIRST, FIRST, generator=rng, dtype=torch.float64) / FIRST**0.5
    even = Even(FIRST + SECOND).double()
    even.running_size.copy_(torch.rand(FIRST + SECOND, generator=rng).double() * 90 + 10)
    unet = networks.make_joint_unet().double().eval()
    grown_joint(unet, old.state_dict(), bridge, even.running_size)
    wanted = said(old, words[..., :FIRST] @ bridge)
    torch.testing.assert_close(said(unet, even(words), **more), wanted, rtol=0, atol=1e-10)


def test_the_second_encoder_pooled_text_and_sizes_can_be_learned(old):
    """They begin at zero, and their gradients do not."""
    unet = networks.make_joint_unet().double()
    grown_joint(unet, old.state_dict(), torch.eye(FIRST), torch.ones(FIRST + SECOND))
    reads = [p for name, p in unet.named_parameters() if name.endswith(READS)]
    assert len(reads) == 2 * 7 and not any(p[:, FIRST:].any() for p in reads)
    words, more = random_texts()
    x = torch.randn(2, 4, 16, 16, dtype=torch.float64)
    unet(x, torch.tensor([10, 700]), words, **more).sample.square().sum().backward()
    assert all(p.grad[:, FIRST:].abs().max() > 0 for p in reads)
    assert unet.add_embedding.linear_2.weight.grad.abs().max() > 0


class Fixed:
    """Both encoders with results that are known."""

    def __init__(self, first, second):
        self.first, self.second = first, second

    def __call__(self, ids):
        out = self.first(ids, output_hidden_states=True)
        return torch.cat([out.hidden_states[-2], self.second(ids)], dim=-1), None


def test_the_bridge_is_least_squares_over_every_position():
    """Against numpy; of the shipped text encoder, most of what its U-Net reads is linear."""
    tokenizer = CLIPTokenizer.from_pretrained(miniature_dir() / "tokenizer")
    first = CLIPTextModel.from_pretrained(miniature_dir() / "text_encoder", dtype=torch.float32)
    ids = tokenizer(captions(150), padding="max_length", return_tensors="pt").input_ids
    second = torch.nn.Embedding(len(tokenizer), 8).requires_grad_(False)
    found = bridge_of(first.eval(), Fixed(first, second), ids, held=50)
    with torch.no_grad():
        out = first(ids, output_hidden_states=True)
    h, y = (part.double().numpy() for part in (out.hidden_states[-2], out.last_hidden_state))
    wanted, *_ = np.linalg.lstsq(h[:100].reshape(-1, FIRST), y[:100].reshape(-1, FIRST))
    np.testing.assert_allclose(found.matrix.numpy(), wanted, atol=1e-3 * np.abs(wanted).max())
    assert found.sizes.shape == (FIRST + 8,)
    assert float(found.sizes[0]) == pytest.approx((h**2).mean() ** 0.5, rel=1e-4)
    told = second(ids).double().square().mean().sqrt()
    assert float(found.sizes[-1]) == pytest.approx(float(told), rel=1e-4)
    rest, mean = y[100:], y[100:].mean((0, 1))
    explained = 1 - ((h[100:] @ wanted - rest) ** 2).sum() / ((rest - mean) ** 2).sum()
    assert found.explained == pytest.approx(explained, abs=1e-3)
    assert found.explained > 0.8


def test_ids_of_the_second_tokenizer_are_those_it_tells_itself(tmp_path):
    folder = miniature_dir() / "tokenizer"
    first = CLIPTokenizer.from_pretrained(folder)
    second_tokenizer(folder).save_pretrained(tmp_path / "tokenizer_2")
    second = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer_2")
    texts = ["", "a dog on the moon.", "a zebra, 12 of them", *captions(20), "a cat " * 40]
    how = {"padding": "max_length", "truncation": True, "max_length": 32, "return_tensors": "pt"}
    ids, theirs = (tokenizer(texts, **how).input_ids for tokenizer in (first, second))
    assert torch.equal(second_ids(ids, first), theirs)
    assert not torch.equal(ids, theirs) and second.pad_token == "!"
    # a pad in a text is a pad, as in XL; no training caption has one
    assert second.convert_tokens_to_ids("!") in second("a moon!").input_ids
    assert not any("!" in text for text in captions(300))


def test_the_added_parts_fit_their_place_in_the_package():
    tokenizer = CLIPTokenizer.from_pretrained(miniature_dir() / "tokenizer")
    parts = networks.make_joint_unet(), networks.make_second_text_encoder(tokenizer)
    numbers = sum(p.numel() for part in parts for p in part.parameters())
    assert 2 * numbers + 8 * (FIRST + SECOND) ** 2 < 15_900_000
    assert FIRST != SECOND


def test_its_recipe_takes_at_most_three_hours():
    assert all(tuple(minutes) == JOINT_STAGES for minutes in JOINT_MINUTES.values())
    assert sum(JOINT_MINUTES["cpu"].values()) <= 165  # photographs and C take some, too
    assert joint(Recipe()).unet_lr < Recipe().unet_lr


# ---- photographs


@pytest.fixture(scope="module")
def picture():
    return render(draw_random(stream("photograph", 1)), ("photograph", 1))[0]


@pytest.mark.parametrize("number", range(12))
def test_a_photograph_cut_in_the_middle_is_what_a_run_reads_of_its_file(picture, number, tmp_path):
    """The frame that training tells is the one that methods are told of people's photographs."""
    image = photograph(picture, stream("shape", number)).filter(ImageFilter.GaussianBlur(2))
    image.save(tmp_path / "photograph.png")
    pixels, frame = shown(image, (0.5, 0.5))
    assert frame == frame_of(tmp_path / "photograph.png", 64)
    theirs = load_rgb(tmp_path / "photograph.png", 64)
    assert pixels.shape == (64, 64, 3)
    apart = np.abs(pixels.astype(float) - theirs).mean()
    assert apart < 4  # their cut may be half a pixel off
    if max(frame[2:]):
        elsewhere, _ = shown(image, (0.0, 0.0))
        assert np.abs(elsewhere.astype(float) - theirs).mean() > apart


def test_photographs_are_cut_made_smaller_or_both_and_the_frame_says_where(picture):
    places = np.stack(np.meshgrid(np.arange(64), np.arange(64), indexing="ij"), axis=-1)
    ramp = np.concatenate([places * 4, np.zeros((64, 64, 1))], axis=-1).astype(np.uint8)
    frames = []
    for number in range(200):
        seen, frame = taken(ramp, stream("where", number))
        high, wide, top, left = frame
        scale = 64 / min(high, wide)
        assert min(high, wide) >= FEWEST - 1 and max(high, wide) <= 64
        tall, broad = round(high * scale), round(wide * scale)
        assert 0 <= top <= tall - 64 and 0 <= left <= broad - 64
        if max(high, wide) == 64 and min(high, wide) < 64:  # cut, and not made smaller
            steps = np.diff(seen[16:48, 16:48, 0].astype(float), axis=0).mean() / 4
            assert steps == pytest.approx(1 / scale, rel=0.1)
        frames.append(frame)
    kinds = {(high == wide, max(high, wide) == 64) for high, wide, *_ in frames}
    assert kinds >= {(True, False), (False, False), (False, True)}
    assert len({top for _, _, top, _ in frames}) > 20 and any(left for *_, left in frames)
    half = Image.fromarray(picture).resize((32, 32), Image.Resampling.BOX)
    blurred, frame = shown(half, (0.0, 0.0))
    assert frame == (32, 32, 0, 0) and not np.array_equal(blurred, picture)


def test_six_numbers_tell_of_each_row():
    frames = np.array([[30, 30, 0, 0], [64, 40, 21, 0]], dtype=np.int16)
    index, cut = np.array([7, 1, 9, 0] * 50), np.array([False, True, False, True] * 50)
    told = sizes_told(np.random.default_rng(0), index, cut, frames)
    assert told.dtype == np.float32 and (told[:, 4:] == 64).all()
    assert (told[1::4] == [64, 40, 21, 0, 64, 64]).all()
    assert (told[3::4] == [30, 30, 0, 0, 64, 64]).all()
    whole = told[0::2]
    assert (whole[:, 2:4] == 0).all() and (whole[:, 0] == whole[:, 1]).all()
    larger = whole[:, 0] > 64
    assert 0.05 < larger.mean() < 0.3 and whole[:, 0].max() <= LARGEST
    assert (whole[~larger, :2] == 64).all()
