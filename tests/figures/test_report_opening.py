"""What the report opens with, and what its results claim: pictures, a verdict, the best in bold,
nothing where there is nothing to say.
"""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from made_run import GLOBAL, LOCAL, make_run
from PIL import Image

from benchmarks.figures.report.at_a_glance import at_a_glance, sentence
from benchmarks.figures.report.gallery import gallery
from benchmarks.figures.report.report_page import write_report
from benchmarks.figures.report.result_table import result_table
from benchmarks.figures.report.run_results import gaps, results
from benchmarks.figures.report.sections import figures
from benchmarks.tables import frames
from benchmarks.tables.build import split_pairs
from benchmarks.tables.run_view import Run

METHODS = {"perfusion": LOCAL[::3] + GLOBAL[::4], "cd": ("default",), "db": ("default",)}


class Opening(HTMLParser):
    """The names of sections, and the pictures of the first one by prompt."""

    def __init__(self, text):
        super().__init__()
        self.sections, self.prompts, self.concepts, self.place = [], {}, [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "section":
            self.sections.append(attrs["id"])
        if self.sections[-1:] == ["glance"]:
            self.place = attrs.get("class", "") or self.place
            if tag == "img" and "concept image" in attrs["alt"]:
                self.concepts.append(attrs["src"])
            elif tag == "img":
                self.prompts[list(self.prompts)[-1]].append((attrs["alt"], attrs["src"]))

    def handle_data(self, data):
        if self.place == "prompt" and data.strip():
            self.prompts[data.strip("“”")] = []
            self.place = ""


def opening_of(run):
    """The first section alone: drawing the figures of a whole page takes longer than all else."""
    data, thumbs = gallery(run, run.folder / "index.html")
    return f'<section id="glance">{at_a_glance(run, data, thumbs)}</section>'


def results_of(run):
    return results(run, "", gallery(run, run.folder / "index.html")[0])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("opening") / "small"
    make_run(folder, METHODS, ["cat", "chair", "dog", "teapot"], prompts=2, images=1)
    return Run(folder)


@pytest.fixture(scope="module")
def page(run):
    return write_report(run, run.folder / "index.html").read_text()


# ---- pictures first ----


def test_the_page_opens_with_the_concept_beside_what_each_method_draws(page, run):
    seen = Opening(page)
    assert seen.sections[0] == "glance"
    assert len(seen.prompts) == 2 * 3, "two prompts of each of at most three concepts"
    assert len(seen.concepts) == 4 * 3
    columns = ["Perfusion, local lock", "Perfusion, global lock", "DreamBooth", "Custom Diffusion"]
    for prompt, pictures in seen.prompts.items():
        assert [
            alt.partition(" (")[0].partition(f", {prompt}")[0] for alt, _ in pictures
        ] == columns
        for alt, source in pictures:
            assert prompt in alt and re.search(r"text 0\.\d{3}$", alt)
            Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).verify()
    kinds = dict(zip(run.plan["prompt_id"], run.plan["kind"]))
    texts = {run.text(row["prompt_id"], row["concept"]): kinds[row["prompt_id"]]
             for row in run.plan.to_dict("records")}  # fmt: skip
    assert [texts[prompt] for prompt in seen.prompts] == ["shape", "deform"] * 3


def test_the_picture_is_that_of_the_cell(page, run):
    (alt, source), *_ = next(iter(Opening(page).prompts.values()))
    point = re.search(r"β = ([\d.]+)", alt)[1]
    shown = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB")
    file = run.image_file("perfusion", f"local-b{point}-t0.15", "cat", "s01", 0)
    gap = np.asarray(shown, float) - np.asarray(Image.open(file).convert("RGB"), float)
    assert np.abs(gap).mean() < 6


def test_pictures_without_room_for_all_methods_say_so(page, tmp_path):
    names = ["ti", "db", "cd", "cd-better", "lora", *(f"{n}-selected" for n in ("ti", "cd", "db"))]
    points = dict.fromkeys(names, ("default",)) | {"perfusion": LOCAL[:1]}
    make_run(tmp_path, points, ["cat"], prompts=1, images=1, size=16)
    said = "6 of 9 methods are shown here; the gallery below has them all."
    assert said in opening_of(Run(tmp_path)) and "methods are shown here" not in page


def test_without_images_there_is_the_verdict_and_no_gap(tmp_path):
    make_run(tmp_path, METHODS, ["cat", "chair"], prompts=2, images=1, pictures=False)
    page = opening_of(Run(tmp_path))
    assert not Opening(page).prompts
    assert 'class="verdict"' in page and 'class="glance"' not in page
    make_run(tmp_path / "floor", {}, ["cat"], prompts=1, images=1, pictures=False)
    nothing = opening_of(Run(tmp_path / "floor"))
    assert nothing == '<section id="glance"></section>', "then it is left out"


# ---- the verdict ----


def test_the_verdict_is_the_paired_difference(page, run):
    told = re.search(r'<p class="verdict">(.*?)</p>', page)[1]
    point = re.search(r"^Perfusion \((\w+) lock, β = ([\d.]+)\) ", told)
    ours = f"{point[1]}-b{point[2]}-t0.15"
    others = {"DreamBooth": "db", "Custom Diffusion": "cd"}
    other = next(name for title, name in others.items() if title in told)
    found = frames.differences(split_pairs(run.cells)[0], "perfusion")
    rows = found[(found["point"] == ours) & (found["other"] == other)].set_index("metric")
    for metric in ("image_sim", "text_sim"):
        lo, hi = sorted(abs(rows.loc[metric, ["lo", "hi"]].astype(float)))
        assert f"{lo:.3f}, {hi:.3f}]".strip("-") in told.replace("[-", "[")
    table = run.table.set_index("method")["harmonic"]
    assert table[other] == table[["db", "cd"]].max(), "the best of the others"
    rest = page.partition("Against each of the others")[2].partition("</ul")[0]
    assert (
        rest.count("<li>") == 1 and next(name for name in others if others[name] != other) in rest
    )


def row(difference, lo=np.nan, hi=np.nan):
    return {"difference": difference, "lo": lo, "hi": hi}


@pytest.mark.parametrize(
    ("image", "text", "told"),
    [
        (
            row(0.1, 0.05, 0.15),
            row(-0.2, -0.3, -0.1),
            "A is ahead of B in image similarity by 0.100 [0.050, 0.150], and is behind it in text "
            "similarity by 0.200 [0.100, 0.300].",
        ),
        (
            row(0.1, -0.05, 0.25),
            row(0.2, 0.1, 0.3),
            "A cannot be told apart from B in image similarity (+0.100 [-0.050, 0.250]), and is "
            "ahead of it in text similarity by 0.200 [0.100, 0.300].",
        ),
        (
            row(-0.1, -0.2, -0.05),
            row(-0.2, -0.3, -0.1),
            "A is behind B in image similarity by 0.100 [0.050, 0.200] and in text similarity by "
            "0.200 [0.100, 0.300].",
        ),
        (
            row(0.1),
            row(-0.2),
            "On this one concept A is, against B, 0.100 higher in image similarity and 0.200 lower "
            "in text similarity; one concept gives no interval.",
        ),
        (row(np.nan), row(0.2, 0.1, 0.3), "A is ahead of B in text similarity by 0.200 [0.100, "
         "0.300]."),
        (row(np.nan), row(np.nan), ""),
    ],
)  # fmt: skip
def test_the_sentence_claims_what_the_intervals_allow(image, text, told):
    assert sentence("A", "B", {"image_sim": image, "text_sim": text}) == told


def test_one_concept_claims_no_interval(tmp_path):
    make_run(tmp_path, METHODS, ["cat"], prompts=2, images=1)
    run = Run(tmp_path)
    opening = opening_of(run)
    assert "one concept gives no interval" in opening and "95 %" not in opening
    page = results_of(run)
    assert "Scores of one concept, without intervals" in page and "95 %" not in page
    assert not re.search(r"\[\d", page)


def test_cut_fits_are_no_verdict(tmp_path):
    about = {
        "config": {"train_steps": 5},
        "methods": {"cd": {"of": "cd", "config": {"steps": 5}}},
    }
    make_run(tmp_path, METHODS, ["cat", "dog"], prompts=1, images=1, pictures=False, extra=about)
    assert "does not tell which method is better" in opening_of(Run(tmp_path))


# ---- the front against the others ----


def test_no_column_of_dashes(page, run):
    assert "–" not in gaps(run)
    found = frames.front_gaps(split_pairs(run.cells)[0]).set_index("other")
    for method, title in (("cd", "Custom Diffusion"), ("db", "DreamBooth")):
        listed = f"{title}</th>" in gaps(run)
        assert listed == bool(found["gap"].notna()[method])
        assert (
            listed or title in gaps(run).partition("does not reach")[2] or "No other" in gaps(run)
        )


def test_where_the_front_reaches_nobody_it_is_one_sentence(run):
    """And a front of one point is none."""
    for methods, told in (
        (METHODS, "No other method has an image similarity that Perfusion's front reaches"),
        ({"perfusion"}, "a front needs several"),
    ):
        lonely = Run(run.folder)
        cells = run.cells.copy()
        shape = cells["metric"] == "image_sim"
        cells.loc[shape & cells["method"].isin(["cd", "db"]), ["mean", "even", "odd"]] -= 3.0
        if len(methods) == 1:
            first = cells["point"] == LOCAL[0]
            cells = cells[first | (cells["method"] != "perfusion")]
            table = run.table
            lonely.__dict__["table"] = table[
                (table["point"] == LOCAL[0]) | (table["method"] != "perfusion")
            ]
        lonely.__dict__["cells"] = cells
        text = gaps(lonely)
        assert told in text and "<table" not in text and "–" not in text


# ---- bold ----


def bold(html):
    """Method -> which of its three scores are bold."""
    found = {}
    for line in re.findall(r"<tr class=.*?</tr>", html):
        cells = re.findall(r"<td data-value.*?</td>", line)
        name = re.sub(r"<svg.*?</svg>|<[^>]+>", "", line.partition("</th>")[0])
        found[name] = ["<strong>" in cell for cell in cells]
    return found


def test_bold_is_the_best_and_what_its_interval_does_not_exclude(run):
    table = run.table[run.table["kind"].isin(["method", "best-h", "floor"])].copy()
    rows = table["kind"] == "method"
    table.loc[rows, "image_sim"] = [0.5, 0.6, 0.61, 0.7, 0.4, 0.69][: rows.sum()]
    table.loc[rows, "image_sim_lo"] = table.loc[rows, "image_sim"] - 0.05
    table.loc[table["kind"] != "method", "image_sim"] = 0.99  # Best H is picked on what it reports
    shown = bold(result_table(table))
    values = dict(zip(table.loc[rows, "image_sim"], shown))
    told = {name: flags[0] for name, flags in shown.items()}
    best = table.loc[rows, "image_sim"].max()
    assert sum(told.values()) == int((table.loc[rows, "image_sim"] >= best - 0.05).sum())
    assert not any(flag for name, flags in shown.items() if "Best H" in name for flag in flags)
    assert values and not any(shown[name][0] for name in shown if "Super" in name)


def test_without_intervals_only_the_best_is_bold(tmp_path):
    make_run(tmp_path, METHODS, ["cat"], prompts=2, images=1, pictures=False)
    shown = bold(results_of(Run(tmp_path)))
    for column in range(3):
        assert sum(flags[column] for flags in shown.values() if len(flags) > column) == 1


# ---- for those who cannot see it ----


def test_headings_say_what_they_are_of(page):
    assert set(re.findall(r"<th(?: scope=\"(\w+)\")?", page)) >= {"col", "row"}
    assert "<th>" not in page
    body = re.findall(r"<tbody>(.*?)</tbody>", page, re.S)
    assert body and all(row.startswith('<th scope="row">') for part in body
                        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", part, re.S))  # fmt: skip


def test_figures_are_told_in_numbers(page, run):
    alts = re.findall(r'<figure class.*?alt="(.*?)"', page, re.S)
    assert len(alts) >= 4
    table = run.table.set_index("method")
    plane = next(alt for alt in alts if alt.startswith("Every method"))
    for method in ("cd", "db"):
        wanted = f"{table.loc[method, 'image_sim']:.3f} and {table.loc[method, 'text_sim']:.3f}"
        assert wanted in plane
    assert all(re.search(r"\d\.\d\d", alt) for alt in alts)


def test_hard_cells_lead_to_their_pictures(page, tmp_path, run):
    data = json.loads(re.search(r'id="gallery-data">(.*?)</script>', page, re.S)[1])
    links = re.findall(r'data-shows="(\d+)" data-point="([^"]+)">([^<]+)</a>', page)
    assert links
    texts = {row["id"]: row["text"] for row in data["rows"]}
    for place, point, text in links:
        assert texts[int(place)] == text and data["cells"][point][place]["files"]
    make_run(tmp_path, METHODS, ["cat", "chair"], prompts=2, images=1, pictures=False)
    assert "data-shows=" not in results_of(Run(tmp_path))


# ---- trainings ----


def test_the_page_has_the_trainings_and_says_which_steps_were_kept(tmp_path):
    make_run(tmp_path, {"cd": ("default",)}, ["cat", "dog"], prompts=1, images=1, pictures=False)
    for step, file in zip((20, 40), sorted((tmp_path / "fits").glob("*/*/fit.json"))):
        about = json.loads(file.read_text()) | {"losses": [0.5, 0.25] * 20, "steps": step}
        file.write_text(json.dumps(about))
    run = Run(tmp_path)
    _, page = figures(run, tmp_path / "index.html")
    alt = next(alt for alt in re.findall(r'alt="(.*?)"', page) if alt.startswith("Loss of every"))
    assert "Custom Diffusion 0.500 to 0.375, kept at step 20 to 40 of 40" in alt


def test_a_run_of_nothing_but_ablations_still_opens(tmp_path):
    make_run(tmp_path, {"perfusion-one-shot": LOCAL}, ["cat", "dog"], prompts=1, images=1)
    run = Run(tmp_path)
    assert "glance" in opening_of(run) and "<table" in results_of(run)
