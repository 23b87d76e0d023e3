"""docs/examples: each runs as its page says, at micro size; the notebook shows what its code gives.

One run is shared by all that need one.
"""

import ast
import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import make_concept
from PIL import Image
from run_kit import ROOT, arguments, copy_of_reference, environment, run_here, shared

from benchmarks.exchange.leaks import leak
from benchmarks.store.run_folder import Store

EXAMPLES = ROOT / "docs" / "examples"
SCRIPTS = sorted([*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.sh")])
SHOWN = EXAMPLES / "reading_a_run.ipynb"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A micro run of Perfusion and the plain word that tests may add to."""
    return copy_of_reference(tmp_path_factory.mktemp("examples") / "run")


@pytest.fixture(scope="module")
def on_path(tmp_path_factory):
    """What a shell sees where the package is installed: `perfbench` and `python`."""
    folder = tmp_path_factory.mktemp("bin")
    for name, words in {"perfbench": "-m benchmarks.cli ", "python": ""}.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words}"$@"\n')
        (folder / name).chmod(0o755)
    return {**environment(), "PATH": f"{folder}:{os.environ['PATH']}"}


def shell(name, *words, env, status=0):
    done = subprocess.run(
        ["bash", str(EXAMPLES / name), *map(str, words)], env=env, capture_output=True, text=True
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def main_of(name):
    """The `main` of an example, without a process of its own: libraries are loaded already."""
    names: dict[str, object] = {"__name__": name}
    exec(compile((EXAMPLES / name).read_text("utf-8"), str(EXAMPLES / name), "exec"), names)
    return names["main"]


def test_the_page_names_every_example_and_each_is_short():
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert "tests/test_examples.py" in page and "tests/api/test_api.py" in page
    named = re.findall(r"\]\(([\w.]+)\)", page)
    assert sorted(named) == sorted(
        path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh", ".ipynb")
    )
    for path in SCRIPTS:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 60, path.name
        assert path.name in text, f"{path.name} does not say how it is called"


def test_own_method(tmp_path, tiny_backbone):
    """A run by it, and the contract's own checks."""
    from benchmarks.contract import check_method
    from benchmarks.planning.methods import load_method

    file = EXAMPLES / "own_method.py"
    check_method(load_method("colour", [str(file)]), tiny_backbone, tell=lambda _: None)
    more = ["--method-file", str(file), "--methods", "colour,super"]
    assert run_here(shared(), tmp_path / "run", *more) == 0
    table = pd.read_csv(tmp_path / "run" / "table.csv")
    assert set(table["method"]) >= {"colour", "super"}
    drawn = list((tmp_path / "run" / "images").glob("*/*/cat/s01/0.png"))
    assert len({path.read_bytes() for path in drawn}) == len(drawn) == 2


def test_own_metric(run_folder, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    main_of("own_metric.py")(run_folder)
    table = pd.read_csv(run_folder / "table.csv")
    [column] = [name for name in table if re.fullmatch(r"image_sim_colourfulness-\w{8}", name)]
    with (run_folder / "colourfulness.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list((run_folder / "images").rglob("*.png")))
    # Of one picture by hand, in float64.
    picture = np.asarray(Image.open(run_folder / rows[0]["path"]).convert("RGB"), float)
    rg = picture[..., 0] - picture[..., 1]
    yb = (picture[..., 0] + picture[..., 1]) / 2 - picture[..., 2]
    mine = (rg.var() + yb.var()) ** 0.5 + 0.3 * (rg.mean() ** 2 + yb.mean() ** 2) ** 0.5
    assert float(rows[0]["image_score"]) == pytest.approx(min(mine, 150.0), rel=1e-12)
    assert table.loc[table["kind"] == "method", column].between(0, 1).all()


def test_import_pictures(run_folder, tmp_path, capsys):
    own = run_folder / "images" / "super" / "default"
    shutil.copytree(own, tmp_path / "theirs", ignore=lambda *_: ["cell.json", "plain-words"])
    main_of("import_pictures.py")(str(tmp_path / "theirs"), str(run_folder), "theirs")
    said = capsys.readouterr().out
    count = len(list((tmp_path / "theirs").rglob("*.png")))
    assert f"{count} of {count} pictures, 0 left out" in said
    assert re.search(r"theirs less perfusion: [+-]0\.\d{3} \[", said)
    with pytest.raises(SystemExit, match="nothing was imported: "):
        main_of("import_pictures.py")(str(tmp_path / "nowhere"), str(run_folder), "others")


def test_compare_two_csvs(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = [(f"c{c}", f"p{p}", rng.normal(0.1 * c, 0.01)) for c in range(6) for p in range(10)]
    ours = pd.DataFrame(rows, columns=["concept", "prompt", "score"])
    luck = ours["concept"].map({f"c{c}": rng.normal(0.1, 0.02) for c in range(6)})
    ours.to_csv(tmp_path / "a.csv", index=False)
    ours.assign(score=ours["score"] - luck).to_csv(tmp_path / "b.csv", index=False)
    files = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    main_of("compare_two_csvs.py")(*files, "score", "concept,prompt", "0.02")
    said = capsys.readouterr().out
    gap = luck.groupby(ours["concept"]).first()
    assert f"A less B: {gap.mean():+.4f}" in said and "over 6 values of concept: A is ahead" in said
    [(naive, honest)] = re.findall(r"would be ([\d.]+); it is ([\d.]+)", said)
    assert float(honest) > 2 * float(naive)


def test_concept_in_diffusers(tmp_path, tiny_backbone, tiny_c_inv, capsys):
    make_concept(tiny_backbone, "cat", "cat").save(tmp_path / "cat.safetensors")
    place = str(tiny_backbone.place)
    main_of("concept_in_diffusers.py")(tmp_path / "cat.safetensors", tmp_path / "out", place)
    names = ["bias-0.3.png", "bias-0.6.png", "bias-0.9.png", "plain.png"]
    assert capsys.readouterr().out.split() == names
    drawn = {(tmp_path / "out" / name).read_bytes() for name in names}
    assert len(drawn) == 4


def test_export_to_lora(tmp_path, on_path):
    from perfusion_core.backbone import Backbone

    backbone = Backbone.open(shared() / "tiny", device="cpu", dtype="float32")
    make_concept(backbone, "cat", "cat").save(tmp_path / "cat.safetensors")
    small = ["--backbone", shared() / "tiny", "--device", "cpu", "--dtype", "float32", "--force"]
    said = shell("export_to_lora.sh", tmp_path / "cat.safetensors", tmp_path / "out", *small,
                 env=on_path)  # fmt: skip
    files = {"cat_emb.safetensors", "cat_lora.safetensors", "cat_bundle.safetensors"}
    assert {path.name for path in (tmp_path / "out").iterdir()} >= files
    assert "cat_lora.safetensors" in said and "perfbench.backbone: tiny" in said


def test_own_concepts(tmp_path, on_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, file in enumerate(sorted((ROOT / "concepts/teapot/images").iterdir())[:5]):
        shutil.copyfile(file, photos / f"{number}.png")
    small = arguments(shared(), tmp_path / "mine")
    small = small[: small.index("--suite")] + small[small.index("--out") + 2 :]
    shell("own_concepts.sh", photos, "teapot", tmp_path / "mine", *small, env=on_path)
    [rows] = (tmp_path / "mine" / "rows").glob("*/perfusion/*/my_thing.csv")
    assert "image_sim_heldout" in rows.read_text()
    kept = tmp_path / "mine-concepts" / "my_thing"
    assert len(list((kept / "images").iterdir())) == 4
    assert 'licence = "mine"' in (kept / "concept.toml").read_text()


def test_gate(tmp_path, on_path):
    """The same again passes; a change whose pictures look less like the concept fails."""
    small = arguments(shared(), tmp_path / "unused")
    small = small[: small.index("--out")] + small[small.index("--out") + 2 :]
    words = [tmp_path / "reference", tmp_path / "change", *small, "--methods", "super"]
    said = shell("gate.sh", *words, env=on_path)
    assert (tmp_path / "reference" / "check.toml").is_file()
    assert (tmp_path / "change" / "check.md").read_text() == said[
        said.index("### perfbench check") :
    ]
    store = Store(tmp_path / "change")
    for file in (tmp_path / "change" / "rows").glob("*/super/default/*.csv"):
        rows = pd.read_csv(file, comment="#", dtype=str, keep_default_na=False)
        worse = rows["image_sim"].map(lambda text: text and f"{float(text) - 0.5:.6f}")
        store.write_rows(file, rows.assign(image_sim=worse).to_dict("records"))
    assert "image_sim" in shell("gate.sh", *words, env=on_path, status=1)


# ---- the notebook ----


def code_of(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_shows_what_its_code_gives(monkeypatch):
    """Run again, cell by cell: every number that is stored in it is the number that it prints."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MPLBACKEND", "agg")
    import matplotlib

    matplotlib.use("agg")
    cells, names = code_of(SHOWN), dict[str, object]()
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    for cell in cells:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile("".join(cell["source"]), str(SHOWN), "exec"), names)
        stored = "".join("".join(one["text"]) for one in cell["outputs"] if "text" in one)
        assert stored and stored == said.getvalue()


def test_the_notebook_is_what_its_command_makes():
    """But for the pixels of its figures, which another font draws differently."""
    import notebook_remake

    def without_pixels(text):
        return re.sub(r'"image/png": "[^"]{1000,}"', '"image/png"', text)

    stored = SHOWN.read_text(encoding="utf-8")
    again = notebook_remake.remade(stored)
    assert without_pixels(again) == without_pixels(stored) != stored


def test_the_notebook_renders_alone():
    """A figure in it, no error, nothing of a machine, small enough for a page."""
    cells = code_of(SHOWN)
    outputs = [one for cell in cells for one in cell["outputs"]]
    assert {one["output_type"] for one in outputs} <= {"stream", "display_data"}
    assert all(one["name"] == "stdout" for one in outputs if one["output_type"] == "stream")
    assert any("image/png" in one.get("data", {}) for one in outputs)
    assert SHOWN.stat().st_size < 120_000
    texts = ["".join(one.get("text", "")) for one in outputs]
    texts += ["".join(cell["source"]) for cell in cells]
    assert not [leak(line) for text in texts for line in text.splitlines() if leak(line)]


def test_examples_parse_and_bash_reads_them():
    for path in SCRIPTS:
        if path.suffix == ".py":
            assert ast.get_docstring(ast.parse(path.read_text("utf-8")))
        else:
            subprocess.run(["bash", "-n", str(path)], check=True)
            assert os.access(path, os.X_OK)
