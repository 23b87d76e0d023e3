"""Analyse a study: read its answers, write the frames, the text and the figure into `analysis/`."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures.looks import untuned_here
from benchmarks.safe_paths import below
from benchmarks.study.answers import read_key
from benchmarks.study.collect import Collected, collect
from benchmarks.study.results import Results, results_of
from benchmarks.study.text_and_figure import draw, markdown
from perfusion_core.errors import UserError


@dataclass(frozen=True)
class Report:
    """What `analyse` made."""

    folder: Path
    text: str
    results: Results
    collected: Collected


def analyse(folder: Path, min_agreement: float = 0.5) -> Report:
    """Read the answers of a study, write `analysis/`: table.md, the frames as CSV, the figure."""
    if not 0 <= min_agreement <= 1:
        raise UserError(f"--min-agreement is {min_agreement}; it is a share from 0 to 1")
    key = read_key(folder)
    collected = collect(key, min_agreement)
    text_of_exclusions = f"{len(collected.raters)} raters, {len(collected.refused)} files refused"
    if not len(collected.ratings):
        raise UserError(
            f"no answer of {folder} counts ({text_of_exclusions}); see docs/studies.md for the "
            f"rules"
        )
    results = results_of(collected.ratings, key.about["methods"], key.about["kind"])
    with untuned_here(key.untuned):
        text = markdown(key, collected, results, min_agreement)
    out = below(folder, "analysis")
    out.mkdir(exist_ok=True)
    names = ("pairs", "concepts", "correlation", "places")
    frames = {"table": results.means, **{name: getattr(results, name) for name in names}}
    frames |= {"raters": collected.raters, "ratings": collected.ratings}
    for name, frame in frames.items():
        frame.round(6).to_csv(below(out, f"{name}.csv"), index=False, lineterminator="\n")
    with untuned_here(key.untuned):
        draw(key.about["kind"], results, out / "study")
    below(out, "table.md").write_text(text + "\n", encoding="utf-8")
    return Report(out, text, results, collected)
