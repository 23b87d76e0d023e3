"""Each trained method shows a drawn concept, and not only its kind: on the shipped miniature, with
an interval over prompts.
"""

import numpy as np
import pytest
from scipy.stats import t

from benchmarks.cli import run
from benchmarks.planning import methods
from benchmarks.store.reading import read_rows

ALL = methods.expanded(["all"])
CONCEPT = "cat"


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_identity_is_above_the_plain_words(name, tmp_path):
    """Image similarity, paired by prompt: the 95 % interval of the gain lies above 0."""
    out = tmp_path / "run"
    words = ["--preset", "quick", "--concepts", CONCEPT, "--prompts", "shape", "--out", str(out)]
    sets = ["--set", "images=1", "--set", "points.perfusion=local-b0.60-t0.15"]
    assert run(["run", "--methods", name, *words, *sets]) == 0
    rows = read_rows(out).query("kind == 'shape'")
    means = rows.pivot_table(index="prompt_id", columns="method", values="image_sim")
    gain = (means[name] - means["super"]).to_numpy()
    half = t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
    assert len(gain) >= 10 and gain.mean() - half > 0, f"{gain.mean():.3f} +- {half:.3f}"
