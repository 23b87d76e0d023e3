"""Nothing is silently wrong: pictures of NaN, points that change nothing, prompts that are cut.

In: trained files, method files and prompts of the kinds that gave a clean table before. Out: a
sentence, an exit status, no picture.
"""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import make_pipe
from PIL import Image
from run_kit import arguments, files, reference, run_here, shared
from safetensors.torch import load_file, safe_open, save_file

from benchmarks.cli import run
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.similarity import score_cell
from benchmarks.store.csv_files import read_frame, rows_text
from benchmarks.suite.image_files import is_flat
from benchmarks.tables.build import remarks_of
from benchmarks.tables.table_text import markdown
from perfusion_core.errors import NotFinite, UserError
from perfusion_core.prompts import unread
from perfusion_core.validation import Diverged, Looks, Validation


def changed(source, target, **tensors):
    """A concept file with other tensors, its header as it was."""
    with safe_open(source, "pt") as file:
        header = file.metadata()
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({**load_file(source), **tensors}, target, header)
    return target


def a_concept():
    return next(reference().glob("fits/perfusion/cat-*/concept.safetensors"))


def beyond(target):
    """Finite numbers, from which no U-Net makes finite ones."""
    o_v = load_file(a_concept())["o_v"]
    return changed(a_concept(), target, o_v=torch.full(o_v.shape, 3e38))


OVERFLOW = """plain = backbone.pipe.encode_prompt
    scale = 1e38 if "cat" in fits else 1.0
    backbone.pipe.encode_prompt = lambda *a: tuple(e if e is None else e * scale for e in plain(*a))
    try:
        yield lambda text: text.replace("{cat}", "cat").replace("{teapot}", "teapot")
    finally:
        del backbone.pipe.encode_prompt
    return
"""


def test_pictures_that_are_not_finite_are_an_error_of_their_cells(tmp_path, capsys):
    out, words = tmp_path / "run", with_method(tmp_path, OVERFLOW, "TEXT_SIDE = True")
    assert run_here(shared(), out, *words) == 1
    told = capsys.readouterr()
    assert "not of finite numbers in float32" in told.err and "no table" in told.err
    drawn = {path.parts[-3] for path in out.glob("images/plain/*/*/*/0.png")}
    assert drawn == {"teapot"}, "the other concept's cells are whole, although they share batches"
    assert run_here(shared(), out, *words, "--allow-missing") == 1
    assert re.search(r"\| plain .* 4/8 ", capsys.readouterr().out)
    assert run_here(shared(), out, *words, "--max-failures", "1") == 1
    told = capsys.readouterr().err
    assert "stopped by --max-failures 1" in told and "2 failed" in told, "both of one task"


def test_generate_draws_no_black_picture(tmp_path, capsys):
    out = tmp_path / "drawn"
    words = ["generate", "A {cat}", "-n", "1", "--steps", "2", "--out", str(out), "--device", "cpu",
             "--backbone", str(shared() / "tiny"), "--dtype", "float32"]  # fmt: skip
    with pytest.raises(NotFinite, match="a picture is not of finite numbers in float32"):
        run([*words, "--concept", f"cat={beyond(tmp_path / 'cat.safetensors')}"])
    assert not list(out.glob("*"))
    zero = torch.zeros_like(load_file(a_concept())["i_star"])
    file = changed(a_concept(), tmp_path / "zero.safetensors", i_star=zero)
    with pytest.raises(UserError, match="i_star is zero"):
        run([*words, "--concept", f"cat={file}"])


def test_a_validation_picture_that_is_not_finite_ends_the_training(tmp_path):
    from contextlib import contextmanager

    from perfusion_core.backbone import Backbone, cross_attentions
    from perfusion_core.training import Log

    backbone = Backbone.open(shared() / "tiny", device="cpu", dtype="float32")

    @contextmanager
    def current():
        layers = list(cross_attentions(backbone.unet).values())
        kept = [layer.to_v.weight.data for layer in layers]
        for layer, weight in zip(layers, kept):
            layer.to_v.weight.data = weight * 1e38
        yield lambda text: text.replace("{}", "cat")
        for layer, weight in zip(layers, kept):
            layer.to_v.weight.data = weight

    for at_once in (1, 2):
        validate = Validation(("A {}",), (1,), lambda _: 1.0, steps=2, at_once=at_once)
        looks = Looks(backbone, validate, current, Log(), tmp_path, lambda folder: folder.mkdir())
        with pytest.raises(Diverged, match="of step 25 are not finite; lower the learning rate"):
            looks.look(25)
            looks.finish()


# ---- points ----

METHOD = '''
"""Nothing is learned; what the point says is read, or not."""
from contextlib import contextmanager
from dataclasses import dataclass

NAME, LABEL, VERSION = "plain", "Plain", 1
TRAINED, PRIOR = False, False


@dataclass(frozen=True)
class Config:
    pass


MINIATURE = Config()


def fit(*args, **kwargs):
    raise AssertionError


@contextmanager
def apply(backbone, fits, point):
    BODY
    yield lambda text: text.replace("{cat}", "cat").replace("{teapot}", "teapot")
'''


def with_method(tmp_path, body, top=""):
    file = tmp_path / "plain.py"
    file.write_text(METHOD.replace("BODY", body).replace("MINIATURE", f"{top}\nMINIATURE"))
    return ("--method-file", str(file), "--methods", "plain")


@pytest.mark.parametrize("top", ["", 'SETTINGS = ("mode",)', "SETTINGS = ()"])
def test_a_point_that_changes_nothing_is_refused_by_the_plan(tmp_path, top):
    more = with_method(tmp_path, "pass" if not top else "point.get('mode')", top)
    point = "points.plain=strength=0.5,strength=1"
    with pytest.raises(UserError, match=r"point strength=0\.5 of plain: it does not look at stren"):
        run(["plan", *arguments(shared(), tmp_path / "run", *more, "--set", point)])


def test_a_setting_that_apply_passes_over_is_told_before_a_picture_is_kept(tmp_path, capsys):
    more = with_method(tmp_path, "point.get('strength', 1.0)")
    out = tmp_path / "run"
    assert run_here(shared(), out, *more, "--set", "points.plain=strenght=0.5") == 1
    assert "did not look at strenght" in capsys.readouterr().err
    assert not any("images/plain" in name for name in files(out))
    good = tmp_path / "good"
    assert run_here(shared(), good, *more, "--set", "points.plain=strength=0.5") == 0


@pytest.mark.parametrize(
    "body",
    [
        "'any' in point",
        "point.setdefault('any', 2)",
        "point == {}",
        "eval('point')['any']",
        "(lambda **names: names['point']['any'])(**locals())",
    ],
)
def test_an_honest_look_is_a_look(tmp_path, body):
    more = with_method(tmp_path, body)
    assert run_here(shared(), tmp_path / "run", *more, "--set", "points.plain=any=1") == 0


def test_another_decorator_may_look(tmp_path):
    more = with_method(tmp_path, "pass")
    text = (tmp_path / "plain.py").read_text().replace("@contextmanager", "@mine\n@contextmanager")
    wrapper = "def mine(f):\n    return lambda b, s, p: [p.get('any'), f(b, s, p)][1]\n\n\n"
    (tmp_path / "plain.py").write_text(text.replace("@mine", f"{wrapper}@mine"))
    assert run_here(shared(), tmp_path / "run", *more, "--set", "points.plain=any=1") == 0


@pytest.mark.parametrize(
    "body", ["dict(point)", "(lambda **_: 0)(**point)", "list(point)", "[*point.items()]"]
)
def test_looking_at_all_settings_is_looking_at_each(tmp_path, body):
    more = with_method(tmp_path, body)
    assert run_here(shared(), tmp_path / "run", *more, "--set", "points.plain=any=1") == 0


# ---- prompts and pictures ----


def test_a_prompt_that_is_cut_is_told_in_the_run_and_in_the_table(tmp_path, capsys):
    suite = tmp_path / "suite"
    shutil.copytree(shared() / "concepts", suite / "concepts")
    (suite / "prompts").mkdir()
    long = "A {} on the beach " + "with a dog and a cat " * 20
    (suite / "prompts" / "prompts.csv").write_text(
        f"id,kind,group,template\nx01,shape,all,A {{}} in a box\nx02,shape,all,{long}and a chair\n"
    )
    words = [*arguments(shared(), tmp_path / "run"), "--prompts", "all"]
    words[words.index("--suite") + 1] = str(suite)
    assert run(["run", *words]) == 0
    told = capsys.readouterr()
    assert told.err.count("prompt x02 is longer than the text encoder reads") == 1
    assert "not drawn: '" in told.err and "x01 is" not in told.err
    assert "8 images are of a prompt whose end the text encoder did not read" in told.out


def test_what_is_not_read_of_a_prompt():
    tokenizer = make_pipe().tokenizer
    longest = tokenizer.model_max_length
    assert unread(tokenizer, "A cat") == "" == unread(tokenizer, "a " * (longest - 2))
    assert unread(tokenizer, "a " * (longest - 2) + "dog, a cat") == "dog, a cat"


def test_flat_pictures_are_counted(tmp_path):
    words = ("perfusion", "default", "cat", "animated", "s01", "shape", 3, "0" * 64, "", "A {}")
    cell = CellRow(*words, "A", "cat", (1, 2, 3))
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    pictures = [Image.new("RGB", (8, 8), "black"), Image.fromarray(noise), Image.new("RGB", (8, 8))]
    assert list(map(is_flat, pictures)) == [True, False, True]

    class Model:
        @staticmethod
        def images(given):
            return np.eye(4)[: len(given)]

        text = None

    concept = [np.eye(4)]
    plain = score_cell(Model, cell, pictures[1:2] * 3, concept, True)
    assert "remark" not in rows_text(plain), "as rows were before there were remarks"
    (tmp_path / "rows.csv").write_text(rows_text(score_cell(Model, cell, pictures, concept, True)))
    frame = read_frame([tmp_path / "rows.csv"])
    assert frame["remark"].tolist() == ["flat", "", "flat"]
    both = score_cell(Model, cell, pictures, concept, True, cut=True)
    (tmp_path / "more.csv").write_text(rows_text(both))
    frame = read_frame([tmp_path / "rows.csv", tmp_path / "more.csv"])
    assert remarks_of(frame) == {"flat": 4, "cut": 3}


def test_the_table_says_how_many(tmp_path):
    from benchmarks.tables.build import tables_of

    table = tables_of(reference()).table
    text = markdown(table, remarks={"flat": 1})
    assert "1 image is of one colour all over" in text and "prompt whose end" not in text
    assert "one colour" not in markdown(table)


def test_a_limit_below_one_prompt_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--limit 1: a prompt has 2 images.*at least 2"):
        run_here(shared(), tmp_path / "run", "--limit", "1")


def test_a_view_of_an_unfinished_run_is_refused_as_its_table_is(tmp_path, capsys):
    out = tmp_path / "run"
    assert run_here(shared(), out, "--concepts", "cat") == 0
    assert run_here(shared(), out, "--limit", "2") == 0
    with pytest.raises(UserError, match="planned images have no score"):
        run(["table", str(out), "--by", "concept"])
    capsys.readouterr()
    assert run(["table", str(out), "--by", "concept", "--allow-missing"]) == 0
    assert "cat" in capsys.readouterr().out


def test_a_run_that_is_limited_goes_on_and_ends_like_any_other(tmp_path, capsys):
    from run_kit import content

    out = tmp_path / "run"
    for _ in range(2):
        assert run_here(shared(), out, "--limit", "6") == 0
        told = capsys.readouterr()
        assert "stopped by --limit after 6 images" in told.err and not told.out
    about = json.loads((out / "run.json").read_text())
    assert about["units"]["cells"]["done"] == 6 and not about["finished"]
    assert run_here(shared(), out, "--limit", "6") == 0
    assert capsys.readouterr().out and content(out) == content(reference())
