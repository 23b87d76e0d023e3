"""What a step of the U-Net is shown: which pictures, and how noisy."""

import numpy as np
import torch

from benchmarks.miniature.training.training_data import FACTORS
from benchmarks.miniature.training.unet import shares, spread_timesteps
from benchmarks.miniature.world.instance import stream


def labelled(**values):
    row = [0] * len(FACTORS)
    for name, value in values.items():
        row[list(FACTORS).index(name)] = value
    return row


def test_a_picture_with_a_material_or_a_state_is_drawn_so_many_times_as_often():
    labels = np.array(
        [
            labelled(),
            labelled(material=3),
            labelled(scene=2, wear=1),
            labelled(state=1),
            labelled(material=1, state=2),
        ]
    )
    ends = shares(labels, 2.5)
    np.testing.assert_allclose(np.diff(ends, prepend=0), np.array([1, 2.5, 1, 2.5, 2.5]) / 9.5)
    drawn = np.searchsorted(ends, stream("draw", 0).random(40_000), side="right")
    counts = np.bincount(drawn, minlength=5) / 40_000 * 9.5
    np.testing.assert_allclose(counts, [1, 2.5, 1, 2.5, 2.5], atol=0.06)


def test_by_one_all_pictures_are_drawn_as_often():
    np.testing.assert_allclose(shares(np.array([labelled(), labelled(state=4)]), 1.0), [0.5, 1.0])


def test_a_batch_has_one_timestep_of_each_equal_part():
    g = torch.Generator().manual_seed(0)
    drawn = torch.stack([spread_timesteps(8, 1000, g) for _ in range(500)])  # [batches, rows]
    assert (drawn // 125 == torch.arange(8)).all()
    # and any of the part's: 500 draws leave out hardly one in a hundred of 125
    assert all(len(set(column.tolist())) > 115 for column in drawn.T)


def test_timesteps_of_the_middle_are_drawn_as_often_as_asked():
    g = torch.Generator().manual_seed(0)
    drawn = torch.cat([spread_timesteps(7, 1000, g, middle=0.5) for _ in range(20_000)]).numpy()
    counts, _ = np.histogram(drawn, bins=[0, 50, 100, 350, 600, 800, 1000])
    density = counts / counts.sum() / np.array([0.05, 0.05, 0.25, 0.25, 0.2, 0.2])
    np.testing.assert_allclose(density, [0.5, 0.5, 1.5, 1.5, 0.5, 0.5], rtol=0.02)
