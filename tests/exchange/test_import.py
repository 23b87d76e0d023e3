"""`perfbench import`: pictures made elsewhere stand in a run's tables as its own do.

Our own pictures, exported as plain folders and as a list, come back under another name with the
same numbers; what is marked, kept and refused.
"""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from run_kit import arguments, copy_of_reference, environment, reference, shared

from benchmarks.cli import run
from benchmarks.running import tasks
from benchmarks.scoring import similarity
from benchmarks.store.reading import read_planned, read_run
from benchmarks.store.run_folder import cell_image
from perfusion_core.errors import UserError

POINT = "local-b0.60-t0.15"
NUMBERS = slice("image_sim", "n_planned")  # of table.csv: all but names and what fits cost


def export(source: Path, method: str, out: Path) -> list[dict[str, str]]:
    """The pictures of a method as CONCEPT/PROMPT_ID/INDEX.png; -> a row a picture."""
    rows = []
    for cell in read_planned(source):
        for index in range(int(cell["n"]) if cell["method"] == method else 0):
            place = (cell["concept"], cell["prompt_id"])
            name = "/".join((*place, f"{index}.png"))
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cell_image(source, method, cell["point"], *place, index), out / name)
            rows.append({"path": name, "concept": place[0], "prompt": place[1], "index": str(index),
                         "point": cell["point"], "method": method})  # fmt: skip
    return rows


def write_list(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def new_folder(kit: Path) -> list[str]:
    return ["--suite", str(kit / "concepts"), "--backbone", str(kit / "tiny"), "--device", "cpu"]


def table_of(folder: Path) -> pd.DataFrame:
    """table.csv as text, so that nothing is rounded, by method."""
    return pd.read_csv(folder / "table.csv", dtype=str, keep_default_na=False).set_index("method")


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def beside(tmp_path_factory) -> Path:
    """A run with our methods, and `theirs`: Perfusion's pictures from a plain folder."""
    home = tmp_path_factory.mktemp("beside")
    folder, pictures = copy_of_reference(home / "run"), home / "pictures"
    export(folder, "perfusion", pictures)
    before = content(pictures)
    words = ["import", str(pictures), "--as", "theirs", "--out", str(folder), "--device", "cpu"]
    assert run(words) == 0
    assert content(pictures) == before
    return folder


def test_our_own_pictures_under_another_name_have_the_same_numbers(beside):
    table = table_of(beside)
    ours, theirs = table.loc["perfusion", NUMBERS], table.loc["theirs", NUMBERS]
    assert len(theirs) == 16 and theirs.to_dict() == ours.to_dict()
    cells = pd.read_csv(beside / "cells.csv", dtype=str)
    numbers = [
        cells[cells["method"] == name].drop(columns=["method", "point"]).to_csv(index=False)
        for name in ("perfusion", "theirs")
    ]
    assert numbers[0] == numbers[1] and numbers[0].count("\n") > 4


def test_what_was_there_stays_as_it_was(beside):
    before, after = content(reference() / "rows"), content(beside / "rows")
    assert before.items() <= after.items()
    plan = (reference() / "plan.csv").read_text(encoding="utf-8")
    assert (beside / "plan.csv").read_text(encoding="utf-8").startswith(plan)
    old, new = read_run(reference()), read_run(beside)
    for key in ("config", "protocol", "digests", "scorers", "select_scorer", "backbone"):
        assert new[key] == old[key]
    assert "columns" not in old


def test_a_new_folder_of_a_list_with_methods_points_and_seeds(tmp_path, capsys):
    """The floor is imported as well, so that text similarity is the same to the last digit."""
    kit, pictures = shared(), tmp_path / "pictures"
    rows = []
    for method in ("super", "perfusion"):
        for row in export(reference(), method, pictures / method):
            named = {"path": f"{method}/{row['path']}", "seed": row["index"]}
            rows.append({**row, **named, "method": {"perfusion": "theirs"}.get(method, method)})
    words = ["import", str(write_list(tmp_path / "pictures" / "list.csv", rows))]
    words += ["--out", str(tmp_path / "new"), *new_folder(kit)]
    assert run(words) == 0
    theirs, ours = table_of(tmp_path / "new"), table_of(reference())
    for name in ("super", "real"):
        assert theirs.loc[name, NUMBERS].to_dict() == ours.loc[name, NUMBERS].to_dict()
    assert theirs.loc["theirs", "point":"n_planned"].to_dict() == (
        ours.loc["perfusion", "point":"n_planned"].to_dict()
    )
    samples = pd.read_csv(tmp_path / "new" / "samples.csv")
    drawn = samples[samples["method"] != "real"]
    assert (drawn["seed"] == drawn["index"]).all() and set(drawn["remark"]) == {"unpaired"}
    # the same words again do nothing new, and none of ours may be drawn over what was imported
    before = content(tmp_path / "new" / "images")
    assert run(words) == 0 and content(tmp_path / "new" / "images") == before
    with pytest.raises(UserError, match="super was imported into"):
        run(["run", *arguments(kit, tmp_path / "new")])


def test_the_preset_of_xl_is_refused_on_other_backbones(tmp_path):
    """Before anything is written: no run could go on in such a folder."""
    export(reference(), "perfusion", tmp_path / "pictures")
    out = tmp_path / "new"
    words = ["import", str(tmp_path / "pictures"), "--as", "theirs", "--out", str(out)]
    for place, name in ((new_folder(shared()), "tiny"), ([], "miniature")):
        with pytest.raises(UserError) as caught:
            run([*words, *place, "--preset", "sdxl"])
        assert str(caught.value) == (
            f"--preset sdxl is the protocol of backbones with two text encoders, as Stable "
            f"Diffusion XL's, and {name} has one; give another preset, such as paper"
        )
        assert not out.exists()


def test_a_backbone_of_the_hub_is_asked_for_its_kind_before_scorers(tmp_path, monkeypatch):
    """Nothing is known of it until it is fetched."""
    monkeypatch.setattr("perfusion_core.places.fetch_checkpoint", lambda *_: shared() / "tiny")
    export(reference(), "perfusion", tmp_path / "pictures")
    words = ["import", str(tmp_path / "pictures"), "--as", "theirs", "--out", str(tmp_path / "new")]
    words += ["--suite", str(shared() / "concepts"), "--backbone", "owner/small"]
    monkeypatch.setattr(
        "benchmarks.planning.backbones.find_scorer", lambda *_, **__: pytest.fail("a scorer")
    )
    with pytest.raises(UserError, match="and owner/small has one; give another preset"):
        run([*words, "--preset", "sdxl"])


def test_imported_rows_are_marked_and_comparisons_say_so(beside, capsys):
    samples = pd.read_csv(beside / "samples.csv")
    marked = samples["remark"].fillna("").str.split().map(lambda words: "unpaired" in words)
    assert (marked == (samples["method"] == "theirs")).all()
    assert read_run(beside)["methods"]["theirs"]["of"] == "imported"
    text = (beside / "table.md").read_text(encoding="utf-8")
    assert "8 images are imported" in text and "unpaired over images" in text
    for by in ("difference", "front", "gap"):
        capsys.readouterr()
        run(["table", str(beside), "--by", by])
        assert "unpaired over images: theirs" in capsys.readouterr().out
    run(["table", str(reference()), "--by", "difference"])
    assert "unpaired" not in capsys.readouterr().out
    two = [f"{beside}::theirs", f"{beside}::perfusion"]
    run(["compare", *two])
    said = capsys.readouterr().out
    assert "unpaired over images (one is imported), paired over concept and prompt_id" in said
    run(["compare", *two, "--json"])
    assert json.loads(capsys.readouterr().out)["unpaired"] == "images"
    run(["compare", f"{beside}::super", f"{beside}::perfusion"])
    assert "unpaired" not in capsys.readouterr().out


def test_the_gate_says_so(beside, tmp_path, capsys):
    margins = "".join(
        f"[retrained.{name}]\nmargin = 0.05\nfloor = 0.1\n"
        for name in ("image_sim", "text_sim_raw")
    )
    against = shutil.copytree(beside, tmp_path / "against")
    (against / "check.toml").write_text(margins + margins.replace("retrained", "same-weights"))
    assert run(["check", str(beside), "--against", str(against)]) == 0
    assert "unpaired over images, as imported: theirs" in capsys.readouterr().out


def test_figures_report_and_study_show_it(beside, tmp_path):
    for words in (["plot", "pareto"], ["report"]):
        assert run([*words, str(beside)]) == 0
    assert "theirs" in (beside / "index.html").read_text(encoding="utf-8")
    study = tmp_path / "study"
    words = ["study", "export", str(beside), "--study", "realism", "--methods", "theirs,super"]
    assert run([*words, "--out", str(study), "--qualify", "0", "--repeats", "0"]) == 0
    assert len(list(study.rglob("images/*.png"))) >= 4


def test_a_run_goes_on_beside_it(beside, tmp_path, capsys):
    folder = shutil.copytree(beside, tmp_path / "run")
    kit = shared()
    with pytest.raises(UserError, match="nothing is trained or drawn; leave it out"):
        run(["run", *arguments(kit, folder, "--methods", "theirs")])
    assert run(["run", *arguments(kit, folder, "--methods", "super", "--prompts", "4")]) == 0
    rows = table_of(folder)
    assert rows.loc["theirs", NUMBERS].to_dict() == rows.loc["perfusion", NUMBERS].to_dict()
    assert rows.loc["theirs", "image_sim"] == table_of(beside).loc["theirs", "image_sim"]
    assert int(rows.loc["super", "n_images"]) > 8
    assert content(beside / "rows").keys() <= content(folder / "rows").keys()


def test_cleaning_leaves_what_no_run_can_draw_again(beside, tmp_path, capsys):
    folder = shutil.copytree(beside, tmp_path / "run")
    assert run(["clean", str(folder), "--images", "--yes"]) == 0
    assert {path.name for path in (folder / "images").glob("*/*/*/*")} and not list(
        (folder / "images" / "perfusion").rglob("*.png")
    )
    assert content(folder / "images" / "theirs") == content(beside / "images" / "theirs")


def test_rows_that_are_lost_are_scored_again_and_no_others(beside, tmp_path, capsys):
    folder = shutil.copytree(beside, tmp_path / "run")
    scorer = read_run(folder)["scorers"][0]["name"]
    lost = folder / "rows" / scorer / "theirs" / "default" / "cat.csv"
    kept = {path: path.stat().st_mtime_ns for path in (folder / "rows").rglob("*.csv")}
    lost.unlink()
    capsys.readouterr()
    assert run(["score", str(folder), "--device", "cpu"]) == 0
    assert content(folder / "rows") == content(beside / "rows")
    again = {path for path in kept if path.stat().st_mtime_ns != kept[path]}
    assert again == {lost}


def test_interrupted_scoring_keeps_what_was_scored(beside, tmp_path, monkeypatch, capsys):
    """Also within one concept: rows are written a part at a time, and are the same bytes."""
    folder = shutil.copytree(beside, tmp_path / "run")
    scorer = read_run(folder)["scorers"][0]["name"]
    rows = folder / "rows" / scorer / "theirs" / "default"
    shutil.rmtree(rows)
    monkeypatch.setattr(tasks, "SCORED", 2)  # a cell a part
    seen, score_cell = list[str](), similarity.score_cell

    def interrupted(model, cell, *rest):
        if len(seen) == 1:
            raise KeyboardInterrupt
        seen.append(f"{cell.concept} {cell.prompt_id}")
        return score_cell(model, cell, *rest)

    words = ["score", str(folder), "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr(similarity, "score_cell", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(words)
    (first,) = seen
    kept = next(rows.glob("*.csv"))
    assert first.split()[0] == kept.stem and len(pd.read_csv(kept, comment="#")) == 2

    def counted(model, cell, *rest):
        seen.append(f"{cell.concept} {cell.prompt_id}")
        return score_cell(model, cell, *rest)

    monkeypatch.setattr(similarity, "score_cell", counted)
    assert run(words) == 0
    assert len(seen) == len(set(seen)) == 4
    assert content(folder / "rows") == content(beside / "rows")


def test_an_interrupted_import_goes_on(tmp_path, capsys):
    pictures, folder = tmp_path / "pictures", tmp_path / "new"
    export(reference(), "perfusion", pictures)
    words = ["import", str(pictures), "--as", "theirs", "--out", str(folder), "--no-score"]
    words += new_folder(shared())
    assert run(words) == 0
    whole, images = content(folder / "images"), folder / "images" / "theirs" / "default"
    cells = sorted(path.parent for path in images.rglob("cell.json"))
    times = {cell: (cell / "cell.json").stat().st_mtime_ns for cell in cells}
    shutil.rmtree(cells[0])
    picture = cells[1] / "0.png"
    picture.write_bytes(picture.read_bytes()[:100])
    assert run(words) == 0
    assert content(folder / "images") == whole
    again = [cell for cell in cells if (cell / "cell.json").stat().st_mtime_ns != times[cell]]
    assert again == cells[:2] and not (folder / "table.csv").exists()


def test_with_link_no_byte_is_copied(tmp_path):
    pictures, folder = tmp_path / "pictures", tmp_path / "new"
    rows = export(reference(), "perfusion", pictures)
    name = rows[0]["path"]
    photograph = (pictures / name).with_suffix(".jpg")
    Image.open(pictures / name).resize((40, 30)).save(photograph)
    (pictures / name).unlink()
    words = ["import", str(pictures), "--as", "theirs", "--out", str(folder), "--no-score"]
    assert run([*words, "--link", *new_folder(shared())]) == 0
    images = folder / "images" / "theirs" / "default"
    for row in rows[1:]:
        assert (images / row["path"]).samefile(pictures / row["path"])
    made = Image.open(images / name)
    assert made.format == "PNG" and made.tobytes() == Image.open(photograph).tobytes()
    told = json.loads((images / name).with_name("cell.json").read_text())["from"][0]
    assert told["name"].endswith(".jpg") and told["size"] == [40, 30]


def test_importing_without_scoring_loads_no_model(tmp_path):
    folder = copy_of_reference(tmp_path / "run")
    export(folder, "super", tmp_path / "pictures")
    words = ["import", str(tmp_path / "pictures"), "--as", "theirs", "--out", str(folder)]
    code = (
        f"import sys; from benchmarks import cli; cli.run({[*words, '--no-score']!r}); "
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
