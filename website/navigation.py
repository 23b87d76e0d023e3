"""Which page stands where in the menu, and the list of all pages in docs/README.md.

In: the table below, and the pages that are there. Out: mkdocs' `nav`; with `python -m
website.navigation` the list in docs/README.md is written again.

A page that is not in the table is an error, and so is an entry without a page.
"""

from dataclasses import dataclass
from pathlib import Path

from website.page_blocks import title_of

ROOT = Path(__file__).resolve().parent.parent
INDEX = "docs/README.md"
MADE = "docs/reference/"  # pages that are made from the code while the site is built
BEGIN, END = "<!-- pages: begin -->", "<!-- pages: end -->"


@dataclass(frozen=True)
class Entry:
    """A page, its name in the menu, and what somebody wants who opens it."""

    path: str
    name: str
    wants: str = ""


SECTIONS: dict[str, tuple[Entry, ...]] = {
    "Start": (
        Entry("README.md", "Perfbench"),
        Entry("docs/tutorial.md", "Ten minutes", "a first picture, a table and a report"),
        Entry(INDEX, "All pages"),
        Entry("docs/glossary.md", "Glossary", "what a word means"),
    ),
    "How to": (
        Entry("docs/concepts.md", "Use your own photographs", "my own photographs as a concept"),
        Entry("docs/examples/README.md", "Examples", "a short script to begin with"),
        Entry("docs/measure.md", "Score your pictures", "numbers for pictures that I have"),
        Entry("docs/import.md", "Put pictures into a table", "pictures by another tool in a run"),
        Entry("docs/evaluate.md", "Choose an epoch", "to know which epoch of a LoRA to keep"),
        Entry("docs/methods.md", "Add a method", "a method of my own, in one file"),
        Entry("docs/add-a-metric.md", "Add a metric", "another score beside the similarities"),
        Entry("docs/judging.md", "Scores from outside", "ratings, or a model as a judge"),
        Entry("docs/studies.md", "Ask people", "a rating study with people"),
        Entry("docs/elsewhere.md", "Use a concept elsewhere", "a concept in ComfyUI or diffusers"),
        Entry("docs/view.md", "Look at runs", "to look at runs side by side"),
        Entry("docs/stable-diffusion.md", "Stable Diffusion", "the benchmark on real models"),
        Entry("docs/backbones.md", "Other models", "to know whether a model works"),
        Entry("docs/scale-out.md", "Many GPUs", "a run on many GPUs or machines"),
        Entry("docs/logging.md", "Follow a run", "training curves in a tracker"),
        Entry("docs/submit.md", "Send a result", "a result of mine on the board"),
        Entry("docs/publish.md", "Publish pictures", "a data set of a run's pictures"),
        Entry("docs/cite.md", "Cite", "to cite the benchmark or a number"),
        Entry("docs/security.md", "Security", "to open files of other people"),
    ),
    "Explanations": (
        Entry("docs/protocol.md", "The protocol", "what is drawn and scored, and why so"),
        Entry("docs/worked-example.md", "Is a difference real?", "one interval, step by step"),
        Entry("docs/statistics.md", "What the numbers mean", "the formula of a column"),
        Entry(
            "docs/regression-gate.md", "The regression gate", "a pull request that loses nothing"
        ),
        Entry("docs/baselines.md", "The compared methods", "the recipe of each method"),
        Entry("docs/miniature.md", "The miniature", "how the drawn world was made"),
        Entry("docs/photographs.md", "Photographs", "what is not true of photographs"),
        Entry("docs/metrics.md", "Is the metric right?", "what a CLIP score is worth"),
    ),
    "Reference": (
        Entry(f"{MADE}commands.md", "Commands"),
        Entry(f"{MADE}settings.md", "Settings"),
        Entry("docs/api.md", "Four functions", "to measure from a script"),
        Entry(f"{MADE}api.md", "benchmarks.api"),
        Entry("docs/library.md", "The library", "what the core offers as Python"),
        Entry(f"{MADE}core.md", "perfusion_core"),
        Entry("docs/run-folder.md", "A run folder", "a file or a column of a run"),
    ),
    "Results": (
        Entry("docs/claims.md", "The paper's claims", "what of the paper holds here"),
        Entry("results/README.md", "All runs", "the runs behind every number"),
        Entry("docs/experiments.md", "Experiments", "questions beyond the paper"),
    ),
    "Project": (
        Entry("docs/architecture.md", "The map", "which module answers a question"),
        Entry("CONTRIBUTING.md", "Contributing", "to change the code"),
        Entry("CHANGELOG.md", "Changelog", "what is new"),
    ),
}
ENTRIES = {entry.path: entry for section in SECTIONS.values() for entry in section}


def pages(root: Path = ROOT) -> list[str]:
    """Every page that is written by hand, in the order of the menu."""
    return [path for path in ENTRIES if not path.startswith(MADE) and (root / path).is_file()]


def problems(root: Path = ROOT) -> list[str]:
    """What is wrong with the table: a sentence each."""
    there = {path.relative_to(root).as_posix() for path in (root / "docs").rglob("*.md")}
    made = sorted(path for path in there if path.startswith(MADE))
    said = [f"{path} would be overwritten by a generated page: rename it" for path in made]
    for path in sorted(there - ENTRIES.keys() - set(made)):
        said.append(f"{path} is in no menu: add it to SECTIONS in website/navigation.py")
    for path in ENTRIES:
        if not path.startswith(MADE) and not (root / path).is_file():
            said.append(f"website/navigation.py names {path}, which is not there")
    if not said and written(root) != (root / INDEX).read_text(encoding="utf-8"):
        said.append(f"{INDEX} lacks a page: give `python -m website.navigation`")
    return said


def menu(more: dict[str, list[dict[str, str]]], root: Path = ROOT) -> list[dict[str, object]]:
    """mkdocs' `nav`. `more`: path of a page -> generated pages that stand below it."""
    nav: list[dict[str, object]] = []
    for section, entries in SECTIONS.items():
        rows: list[object] = []
        for entry in entries:
            if entry.path.startswith(MADE) or (root / entry.path).is_file():
                below = more.get(entry.path)
                rows.append({entry.name: [entry.path, *below] if below else entry.path})
        nav.append({section: rows})
    return nav


def beside(address: str) -> list[dict[str, object]]:
    """Of a published site: what .github/board.sh writes beside its pages."""
    return [{"Board": f"{address}board/index.html"}, {"Explorer": f"{address}explorer/index.html"}]


def page_list(root: Path = ROOT) -> str:
    """A table a section: what somebody wants, and the page that has it."""
    lines: list[str] = []
    for section, entries in SECTIONS.items():
        shown = [entry for entry in entries if entry.wants and (root / entry.path).is_file()]
        lines += ["", f"## {section}", "", "| I want | page |", "|---|---|"]
        for entry in shown:
            place = f"../{entry.path}".replace("../docs/", "")
            title = title_of((root / entry.path).read_text(encoding="utf-8"))
            lines.append(f"| {entry.wants} | [{title}]({place}) |")
    return "\n".join([*lines, ""])


def written(root: Path = ROOT) -> str:
    """docs/README.md with the list between its marks made again."""
    text = (root / INDEX).read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{page_list(root)}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    (ROOT / INDEX).write_text(written(), encoding="utf-8")
