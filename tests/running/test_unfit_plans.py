"""What a plan says before anything is trained: recipes that the backbone cannot have, and methods
without pairs.

In: settings of `perfbench run --dry-run`. Out: one sentence, and nothing written.
"""

import pytest
from run_kit import run_here, shared

from benchmarks.running.beforehand import listed
from perfusion_core.errors import UserError


def test_blocks_that_divide_no_width_are_refused_before_anything_is_done(tmp_path):
    for name in ("oft", "oft-selected"):
        more = ("--methods", name, "--set", f"fit.{name}.blocks=3", "--dry-run")
        said = rf"^fit\.{name}\.blocks=3 does not divide 16, 32, widths of"
        with pytest.raises(UserError, match=said):
            run_here(shared(), tmp_path / "run", *more)
        assert not (tmp_path / "run").exists()


def test_methods_without_pairs_are_named(tmp_path, capsys):
    """In one sentence, and only where pairs are asked for."""
    said = "no pairs are planned for db and attndreambooth, because one picture holds one concept"
    more = ("--methods", "ti,db,attndreambooth", "--dry-run")
    assert run_here(shared(), tmp_path / "run", *more, "--pairs", "cat+teapot") == 0
    assert said in capsys.readouterr().out
    assert run_here(shared(), tmp_path / "run", *more) == 0
    assert "no pairs are planned" not in capsys.readouterr().out


def test_several_names_in_a_sentence():
    assert [listed("a"), listed("ab"), listed("abc")] == ["a", "a and b", "a, b and c"]
