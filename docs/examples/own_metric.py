"""A metric of your own, for every picture of a run, with intervals beside the others.

    python docs/examples/own_metric.py results/mine
    perfbench table results/mine --by scorers

The metric here is colourfulness (Hasler and Suesstrunk, 2003). Its number goes into a table that
`perfbench score --from` reads, as a likeness (`image_score`) or as fit to the prompt
(`text_score`). A measure of this package is a line in benchmarks/scoring/measures.py instead.
"""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.api import open_run

MOST = 150.0  # the end of the scale; a photograph has 20 to 80


def colourfulness(picture: Image.Image) -> float:
    r, g, b = np.asarray(picture.convert("RGB"), dtype=float).transpose(2, 0, 1)
    rg, yb = r - g, (r + g) / 2 - b
    spread = np.hypot(rg.std(), yb.std())
    return float(spread + 0.3 * np.hypot(rg.mean(), yb.mean()))


def main(run: Path) -> None:
    place = ["method", "point", "concept", "prompt_id", "index"]
    drawn = open_run(run).samples.query("method != 'real'")[place]
    with (run / "colourfulness.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "image_score", "text_score"])
        for *folders, index in drawn.itertuples(index=False):
            path = Path("images", *folders, f"{index}.png")
            score = min(colourfulness(Image.open(run / path)), MOST)
            table.writerow([path.as_posix(), score, score])
    words = ["score", run, "--from", run / "colourfulness.csv", "--scorer", "colourfulness"]
    scale = ["--scale", f"0:{MOST:g}"]
    subprocess.run([sys.executable, "-m", "benchmarks.cli", *map(str, words), *scale], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
