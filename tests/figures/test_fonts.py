"""Signs that matplotlib's own font has not, in prompts and names: another font draws them where one
is installed; else one line says so, and no warning of matplotlib's reaches anybody.
"""

import io
import warnings

import matplotlib
import pytest
from made_run import make_run
from matplotlib.figure import Figure

from benchmarks.cli import run
from benchmarks.figures import style

OTHER = "STIXGeneral"  # comes with matplotlib, and has signs that DejaVu Sans has not
SIGN = "\u1d81"  # one of them


@pytest.fixture
def fonts(monkeypatch):
    """-> a function that says which fonts are looked for."""

    def choose(*names):
        monkeypatch.setattr(style, "FALLBACKS", names)
        style.fallbacks.cache_clear()

    yield choose
    monkeypatch.undo()
    style.fallbacks.cache_clear()


def drawn(text, kind="png"):
    with style.styled():
        figure = Figure(figsize=(2, 1))
        figure.text(0.1, 0.5, text)
        figure.draw_without_rendering()
        out = io.BytesIO()
        figure.savefig(out, format=kind, metadata=style.METADATA[kind])
    return out.getvalue()


@pytest.fixture
def chinese(tmp_path):
    """A run whose prompt is written in Chinese."""
    make_run(tmp_path / "run", {"cd": ("default",)}, ["cat"], prompts=2, images=2)
    plan = tmp_path / "run" / "plan.csv"
    text = plan.read_text()
    assert "A {cat} in the snow" in text
    plan.write_text(text.replace("A {cat} in the snow", "雪地里的{cat}，桜"))
    return tmp_path / "run"


@pytest.mark.parametrize("kind", style.FORMATS)
def test_a_prompt_that_no_font_has_is_one_line_and_no_warning(chinese, fonts, kind, capfd):
    fonts("No Such Font")
    out = chinese.parent / f"gallery.{kind}"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert run(["plot", "gallery", str(chinese), "--out", str(out)]) == 0
    assert [str(one.message) for one in told if "lyph" in str(one.message)] == []
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "Glyph" not in said and "findfont" not in said
    assert said.startswith("perfbench: no font here has 雪 地 里 的 ， and 1 more, so figures show")
    assert out.stat().st_size > 1000


def test_an_installed_font_draws_them_and_nothing_is_told(fonts, capfd):
    fonts("No Such Font", OTHER)
    mine = drawn(f"x {SIGN} y")
    assert capfd.readouterr().err == ""
    fonts("No Such Font")
    boxes = drawn(f"x {SIGN} y")
    assert f"no font here has {SIGN}, so" in capfd.readouterr().err and mine != boxes


@pytest.mark.parametrize("kind", style.FORMATS)
def test_what_the_first_font_has_is_drawn_as_before(fonts, kind):
    """Byte for byte, whatever else is installed: committed figures stay."""
    fonts()
    plain = drawn("Perfusion, 0.60 → 0.75 ± Å", kind)
    fonts(OTHER)
    assert drawn("Perfusion, 0.60 → 0.75 ± Å", kind) == plain


def test_other_warnings_still_reach_whom_they_are_for():
    with pytest.warns(RuntimeWarning, match="something else"), style.styled():
        warnings.warn("something else", RuntimeWarning, stacklevel=1)


def test_what_is_outside_of_our_figures_stays_as_it_was():
    before = list(matplotlib.rcParams["font.family"])
    drawn("x")
    assert list(matplotlib.rcParams["font.family"]) == before
