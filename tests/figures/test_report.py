"""The report as text: complete, self-contained, and nothing that a user wrote becomes markup."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from made_run import GLOBAL, LOCAL, make_run
from PIL import Image

from benchmarks.cli import run as perfbench
from benchmarks.figures.report.gallery import all_series, gallery
from benchmarks.figures.report.report_page import write_report
from benchmarks.store.run_folder import Store
from benchmarks.tables.run_view import Run
from perfusion_core.errors import UserError

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
VOID = {"meta", "img", "input", "br", "link", "circle", "path", "line"}


class Page(HTMLParser):
    """Tags closed in order, attributes, and the text of tables and of JSON blocks."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.scripts, self.rows, self.text = [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append([dict(attrs), ""])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1][1] += data
        else:
            self.text.append(data)
            if {"td", "th"} & set(self.open):
                self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "small"
    methods = {"perfusion": LOCAL[::3] + GLOBAL[::4], "cd": ("default",)}
    make_run(folder, methods, ["cat", "teapot"], prompts=2, images=2)
    return Run(folder)


@pytest.fixture(scope="module")
def page(run):
    return Page(write_report(run, run.folder / "index.html").read_text())


def block(page, **wanted):
    (found,) = [text for attrs, text in page.scripts if wanted.items() <= attrs.items()]
    return json.loads(found)


def test_the_page_needs_nothing_from_elsewhere(page, run):
    for tag, attributes in page.attributes:
        for name in ("src", "href", "srcset", "action"):
            value = attributes.get(name) or ""
            assert "//" not in value.partition(",")[0], (tag, value)
            assert value.startswith(("data:", "#", "figures/")) or not value
    text = (run.folder / "index.html").read_text()
    assert not re.search(r"@import|url\(", text)
    policy = next(
        a["content"] for _, a in page.attributes if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_the_table_is_the_run_s(page, run):
    head = page.rows[0]
    assert head[:4] == ["Method", "Image similarity", "Text similarity", "Harmonic mean"]
    shown = {tuple(row[0].split()): row for row in page.rows[1 : 1 + len(run.table)]}
    assert len(shown) == len(run.table)
    for row in run.table.to_dict("records"):
        found = [
            r
            for r in shown.values()
            if f"{row['image_sim']:.3f} [{row['image_sim_lo']:.3f}" in r[1]
        ]
        assert found, row
        if row["kind"] != "ceiling":
            assert any(
                f"{row['harmonic']:.3f} [{row['harmonic_lo']:.3f}, {row['harmonic_hi']:.3f}]"
                in r[3]
                for r in found
            )
    order = [row[0] for row in page.rows[1 : 1 + len(run.table)]]
    assert order[0].startswith("Perfusion, local lock") and order[-1].startswith("Real images")


def test_concepts_are_shown_by_method_and_metric(page, run):
    metrics = run.metrics[
        (run.metrics["method"] == "cd") & (run.metrics["concept"] == "teapot")
    ].iloc[0]
    rows = [row for row in page.rows if row and row[0] == "teapot" and len(row) > 3]
    for metric in ("image_sim", "text_sim", "harmonic"):
        assert any(f"{metrics[metric]:.3f}" in row for row in rows)


def test_figures_are_in_the_page_and_beside_it(page, run):
    sources = [a["src"] for tag, a in page.attributes if tag == "img" and a.get("src")]
    kinds = [source.partition(";")[0] for source in sources]
    # the plane and the concepts; the bias figure holds pictures
    assert kinds.count("data:image/svg+xml") >= 2
    for source in sources:
        body = base64.b64decode(source.partition(",")[2])
        if source.startswith(("data:image/png", "data:image/webp")):  # the page opens with webp
            Image.open(io.BytesIO(body)).verify()
        else:
            assert body.startswith(b"<?xml")
    for _, attributes in page.attributes:
        if (attributes.get("href") or "").startswith("figures/"):
            assert (run.folder / attributes["href"]).stat().st_size > 1000
    assert "ablation: " in "".join(page.text)  # what this run has no data for is named


def test_gallery_holds_every_image_once(page, run):
    data = block(page, id="gallery-data")
    assert len(data["rows"]) == 2 * 4 and data["rows"][0]["text"] == "A cat* on the beach"
    thumbs = {name: block(page, **{"data-thumbs": name}) for name in ("cat", "teapot")}
    used = []
    for point, cells in data["cells"].items():
        method, _, name = point.partition("/")
        for number, cell in cells.items():
            row = data["rows"][int(number)]
            assert row["id"] == int(number) and cell["n"] == 2
            used += [(row["concept"], index) for index in cell["thumbs"]]
            thumb = Image.open(
                io.BytesIO(base64.b64decode(thumbs[row["concept"]][cell["thumbs"][1]]))
            ).convert("RGB")
            real = Image.open(
                run.image_file(method, name, row["concept"], row["prompt"], 1)
            ).convert("RGB")
            assert thumb.size == real.size
            gap = sum(
                abs(a - b)
                for a, b in zip(thumb.resize((4, 4)).tobytes(), real.resize((4, 4)).tobytes())
            )
            assert gap / 48 < 6  # WebP, not another image
    assert sorted(used) == sorted((name, i) for name in thumbs for i in range(len(thumbs[name])))
    cells = run.cells
    at = (cells["method"] == "cd") & (cells["concept"] == "cat") & (cells["prompt_id"] == "s01")
    wanted = cells[at & (cells["metric"] == "image_sim")]["mean"].iloc[0]
    assert f"image {wanted:.3f}" in data["cells"]["cd/default"]["0"]["score"]


def test_series_keep_their_biases_together(page):
    data = block(page, id="gallery-data")
    biases = {one["label"]: [point["bias"] for point in one["points"]] for one in data["series"]}
    assert biases["Perfusion, local"] == [0.60, 0.75] and biases["Perfusion, global"] == [
        0.40,
        0.60,
    ]
    assert biases["Custom Diffusion"] == [None] and biases["Super-category"] == [None]


def test_published_methods_are_switched_on_before_variants(run):
    many = Run(run.folder)
    cd = run.table[run.table["method"] == "cd"]
    more = [
        cd.assign(method=name)
        for name in ("db", "db-selected", "ti", "ti-selected", "cd-selected", "lora")
    ]
    many.__dict__["table"] = pd.concat([run.table, *more], ignore_index=True)
    shown = [one["id"].partition("/")[0] for one in all_series(many) if one["shown"]]
    assert shown == ["perfusion", "perfusion", "db", "ti", "cd"]


def test_a_small_budget_keeps_the_first_image_of_every_cell(run, tmp_path):
    full, _ = gallery(run, run.folder / "index.html")
    cells = sum(len(by_row) for by_row in full["cells"].values())
    _, thumbs = gallery(run, run.folder / "index.html", budget=1)
    assert sum(map(len, thumbs.values())) == 1
    size = sum(len(t) for texts in thumbs.values() for t in texts)
    data, thumbs = gallery(run, tmp_path / "elsewhere.html", budget=size * cells)
    count = sum(map(len, thumbs.values()))
    assert cells * 0.7 < count < 2 * cells
    second = [cell["thumbs"][1] for by_row in data["cells"].values() for cell in by_row.values()]
    first = [cell["thumbs"][0] for by_row in data["cells"].values() for cell in by_row.values()]
    assert None not in first or all(one is None for one in second)
    assert None in second
    assert (tmp_path / data["base"] / "table.csv").resolve() == (run.folder / "table.csv").resolve()


def copy_of(run, folder, **changes):
    """A run with other fields in run.json, without pictures."""
    make_run(
        folder, {"cd": ("default",)}, ["cat"], prompts=1, images=1, pictures=False, extra=changes
    )
    return Run(folder)


def test_what_users_write_stays_text(run, tmp_path):
    odd = copy_of(
        run,
        tmp_path / "odd",
        argv=["perfbench", EVIL],
        config={EVIL: {EVIL: EVIL}},
        device=EVIL,
        backbone={"id": EVIL},
    )
    plan = (
        (odd.folder / "plan.csv")
        .read_text()
        .replace("A {cat} on the beach", '"A {cat} ' + EVIL.replace('"', '""') + '"')
    )
    (odd.folder / "plan.csv").write_text(plan)
    image = odd.image_file("cd", "default", "cat", "s01", 0)
    image.parent.mkdir(parents=True)
    Image.new("RGB", (64, 64), "red").save(image)
    Store(odd.folder).write_failure("k" * 64, EVIL, f"Traceback\nValueError: {EVIL}")
    text = write_report(odd, odd.folder / "index.html").read_text()
    assert EVIL not in text and "<img src=x" not in text
    page = Page(text)
    assert not any("onerror" in attributes for _, attributes in page.attributes)
    assert len([1 for attrs, _ in page.scripts if "type" not in attrs]) == 1
    shown = "".join(page.text)
    assert shown.count(EVIL) >= 5  # every one of them can still be read
    assert block(page, id="gallery-data")["rows"][0]["text"] == f"A cat* {EVIL}"


def test_failures_and_missing_images_are_said(run, tmp_path):
    bad = copy_of(run, tmp_path / "bad")
    Store(bad.folder).write_failure(
        "a" * 64, "fit of cd on cat", "Traceback ...\nRuntimeError: out of paint"
    )
    table = pd.read_csv(bad.folder / "table.csv")
    table.assign(n_planned=table["n_planned"] + 1).to_csv(bad.folder / "table.csv", index=False)
    shown = "".join(Page(write_report(bad, tmp_path / "page.html").read_text()).text)
    assert "1 failed." in shown and "fit of cd on cat: RuntimeError: out of paint" in shown
    assert re.search(r"2 of 3 images", shown)
    assert "they were dropped after scoring" in shown
    good = "".join(Page(write_report(run, run.folder / "index.html").read_text()).text)
    assert "None." in good and "failed." not in good


@pytest.mark.parametrize("concepts", [["cat"], ["cat", "chair"]])
def test_one_method_against_the_floor_alone(tmp_path, concepts):
    """The README's first run: `--methods perfusion,super`, one operating point."""
    folder = tmp_path / "first"
    make_run(folder, {"perfusion": LOCAL[:1]}, concepts, prompts=1, images=1)
    run = Run(folder)
    page = Page(write_report(run, folder / "index.html").read_text())
    assert (
        len([row for row in page.rows if row and row[0].startswith("Perfusion, local lock")]) >= 1
    )
    assert "front against the others" not in "".join(page.text)


@pytest.mark.parametrize("concepts, images", [(["cat"], 2), (["cat", "chair"], 1)])
def test_small_runs_show_no_nan(tmp_path, concepts, images):
    """One concept, or one image a cell: what they cannot tell is not a number on the page."""
    make_run(tmp_path, {"cd": ("default",)}, concepts, prompts=5, images=images, pictures=False)
    page = Page(write_report(Run(tmp_path), tmp_path / "index.html").read_text())
    shown = "".join(page.text)
    assert not re.search(r"\bnan\b", shown) and ("their pairing" in shown) == (len(concepts) > 1)


def test_every_command_of_the_folder_is_shown(run, tmp_path):
    commands = [
        {"argv": ["perfbench", "run", "--methods", "cd"]},
        {"argv": ["perfbench", "run", "--methods", "ti"]},
    ]
    more = copy_of(run, tmp_path / "more", commands=commands, finished=None)
    shown = "".join(Page(write_report(more, tmp_path / "page.html").read_text()).text)
    assert (
        "perfbench run --methods cd\nperfbench run --methods ti" in shown
        and "None" not in shown.split("Failures")[-2]
    )


def test_only_the_rows_that_kept_images_are_shown(run, tmp_path):
    kept = copy_of(run, tmp_path / "kept")
    file = kept.image_file("cd", "default", "cat", "a01", 0)
    file.parent.mkdir(parents=True)
    Image.new("RGB", (512, 512), "blue").save(file)
    text = write_report(kept, kept.folder / "index.html").read_text()
    data = block(Page(text), id="gallery-data")
    assert [row["prompt"] for row in data["rows"]] == ["a01"] and data["left_out"] == 1
    thumb = base64.b64decode(block(Page(text), **{"data-thumbs": "cat"})[0])
    assert Image.open(io.BytesIO(thumb)).size == (128, 128)


def test_a_broken_image_is_named_and_the_rest_is_shown(run, tmp_path):
    broken = copy_of(run, tmp_path / "broken")
    for prompt, content in (("s01", b"\x89PNG no"), ("a01", None)):
        file = broken.image_file("cd", "default", "cat", prompt, 0)
        file.parent.mkdir(parents=True)
        file.write_bytes(content) if content else Image.new("RGB", (64, 64)).save(file)
    text = write_report(broken, broken.folder / "index.html").read_text()
    data = block(Page(text), id="gallery-data")
    assert len(data["unreadable"]) == 1 and "1 images could not be read" in "".join(Page(text).text)


def test_the_same_run_gives_the_same_page(run):
    first = write_report(run, run.folder / "index.html").read_bytes()
    assert write_report(Run(run.folder), run.folder / "index.html").read_bytes() == first


def test_the_verb_writes_beside_the_run(run, tmp_path, monkeypatch, capsys):
    assert perfbench(["report", str(run.folder)]) == 0
    assert capsys.readouterr().out.strip() == str(run.folder / "index.html")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="perfbench run --preset quick"):
        perfbench(["report"])
    (tmp_path / "results/new").mkdir(parents=True)
    (tmp_path / "results/new/run.json").write_bytes((run.folder / "run.json").read_bytes())
    with pytest.raises(UserError, match=r"no table.csv; `perfbench table "):
        perfbench(["report"])
