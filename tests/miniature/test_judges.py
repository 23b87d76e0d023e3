"""The miniature's judges: how they ship, what they are taught with, that they learn."""

import numpy as np
import pytest
import torch

from benchmarks.miniature.training.judges import (
    JUDGED,
    JUDGES,
    make_judge,
    open_judges,
    write_judges,
)
from benchmarks.miniature.training.stage import Stage
from benchmarks.miniature.world.instance import stream
from perfusion_core.errors import UserError


@pytest.fixture(scope="module")
def judges_dir(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    write_judges({name: make_judge(name) for name in JUDGES}, folder / "judges", {"version": 1})
    return folder


def test_judges_fit_into_five_megabytes_and_come_back(judges_dir):
    files = list((judges_dir / "judges").glob("*.safetensors"))
    assert len(files) == 3 and sum(path.stat().st_size for path in files) < 5_000_000
    judges = open_judges(judges_dir)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    said = judges.factors(pictures)
    assert set(said) == {"cls", "scene", "wear", "do", "state", "material", "style"}
    assert all(
        len(values) == 5 and set(values) <= set(JUDGED[name]) for name, values in said.items()
    )
    vectors = judges.identity(pictures)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    masks = judges.segment(pictures)
    assert masks.shape == (5, 64, 64) and masks.dtype == bool


def test_missing_or_other_judges_are_told(judges_dir, tmp_path):
    with pytest.raises(UserError, match="no judges"):
        open_judges(tmp_path)
    write_judges({name: make_judge("segment") for name in JUDGES}, tmp_path / "judges", {})
    with pytest.raises(UserError, match="another version"):
        open_judges(tmp_path)


def test_judges_are_taught_with_other_instances_and_held_out_pairs():
    from benchmarks.miniature.training.judge_data import draw_judged
    from benchmarks.miniature.world.instance import make_instance
    from benchmarks.miniature.world.picture import CLASSES, factors, held_out

    rng = stream("test", "judged")
    pictures = [draw_judged(rng, "judge") for _ in range(6000)]
    seen = {pair for picture in pictures for pair in factors(picture)}
    assert len(held_out() & seen) > 0.9 * len(held_out())
    assert {picture.one.cls for picture in pictures} == set(CLASSES)
    assert all(picture.other is None for picture in pictures)
    pool = {make_instance("cat", ("pool", k)) for k in range(3000)}
    assert not pool & {picture.one for picture in pictures}


def test_spoiling_blurs_and_adds_noise_by_the_generator_alone():
    from benchmarks.miniature.training.judge_training import spoil

    x = torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 4 - 2
    a, b = (spoil(x, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b) and not torch.equal(a, spoil(x, torch.Generator().manual_seed(6)))
    rough = (a[..., 1:] - a[..., :-1]).square().mean((1, 2, 3)) / (
        x[..., 1:] - x[..., :-1]
    ).square().mean((1, 2, 3))
    assert rough.min() < 0.7 < rough.max() < 1.5  # some are blurred


def test_the_segmenter_learns_masks_of_renders(tmp_path):
    from benchmarks.miniature.training.judges import as_input
    from benchmarks.miniature.world.instance import make_instance
    from benchmarks.miniature.world.picture import Picture, render

    drawn = [render(Picture(make_instance("teapot", k), "studio"), k) for k in range(4)]
    x = as_input(np.stack([image for image, _ in drawn]))
    truth = torch.from_numpy(np.stack([mask for _, mask in drawn])).float() / 255
    torch.manual_seed(0)
    net = make_judge("segment")
    stage = Stage({"net": net}, tmp_path / "s.safetensors", lr=3e-3)
    losses = []
    for _ in range(14):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(x), truth)
        stage.update(loss, warmup=3)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
