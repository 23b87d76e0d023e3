"""Trained on one drawn concept by its recipe for the miniature, a method's pictures are nearer to
the concept than the plain word's.
"""

import pandas as pd
import pytest
from scipy import stats

from benchmarks.cli import run
from benchmarks.planning import methods

TRAINED = [name for name in methods.BUILT_IN if methods.said(name).trained]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_identity_is_above_the_plain_word(name, tmp_path):
    """With a 95 % interval of the difference over the prompts; minutes, because it is the whole
    recipe."""
    out = tmp_path / "run"
    words = f"run --preset quick --backbone miniature --methods {name} --concepts cat --device cpu"
    words += " --prompts shape --set images=1 --set points.perfusion=local-b0.60-t0.15 --no-cache"
    assert run([*words.split(), "--out", str(out)]) == 0
    samples = pd.read_csv(out / "samples.csv")
    wide = samples.pivot_table("image_sim", "prompt_id", "method")
    beyond = wide[name] - wide["super"]
    low, high = stats.t.interval(0.95, len(beyond) - 1, beyond.mean(), stats.sem(beyond))
    print(f"{name}: {beyond.mean():.3f} [{low:.3f}, {high:.3f}] over {len(beyond)} prompts")
    assert len(beyond) == 19 and low > 0
