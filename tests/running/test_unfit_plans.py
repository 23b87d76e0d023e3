"""What a plan says before anything is trained: recipes that the backbone cannot have.

In: settings of `perfbench run --dry-run`. Out: one sentence, and nothing written.
"""

import pytest
from run_kit import run_here, shared

from perfusion_core.errors import UserError


def test_blocks_that_divide_no_width_are_refused_before_anything_is_done(tmp_path):
    more = ("--methods", "oft", "--set", "fit.oft.blocks=3", "--dry-run")
    with pytest.raises(UserError, match=r"fit\.oft\.blocks=3 does not divide 16, 32, widths of"):
        run_here(shared(), tmp_path / "run", *more)
    assert not (tmp_path / "run").exists()
