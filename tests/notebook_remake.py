"""Runs docs/examples/reading_a_run.ipynb and stores its outputs, with nothing but this package.

In: the notebook's cells. Out: the same file, with printed text and figures of today. Give `python
tests/notebook_remake.py` from the checkout's root after a change of a cell or of the committed run.
"""

import base64
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

NOTEBOOK = Path(__file__).parent.parent / "docs" / "examples" / "reading_a_run.ipynb"


def drawn() -> list[dict[str, Any]]:
    """The open figures as outputs; they are closed."""
    outputs = []
    for number in plt.get_fignums():
        with io.BytesIO() as file:
            figure = plt.figure(number)
            figure.savefig(file, format="png", bbox_inches="tight", metadata={"Software": None})
            picture = base64.b64encode(file.getvalue()).decode() + "\n"
        data = {"image/png": picture}
        outputs.append({"data": data, "metadata": {}, "output_type": "display_data"})
    plt.close("all")
    return outputs


def printed(said: io.StringIO) -> list[dict[str, Any]]:
    """What was printed since the last time, as an output."""
    text = said.getvalue().splitlines(keepends=True)
    said.seek(0)
    said.truncate()
    return [{"name": "stdout", "output_type": "stream", "text": text}] if text else []


def run(cells: list[dict[str, Any]]) -> None:
    """A figure stands where the cell shows it."""
    names: dict[str, object] = {}
    plt.close("all")  # figures of a caller
    show = plt.show
    try:
        for count, cell in enumerate((one for one in cells if one["cell_type"] == "code"), 1):
            said, outputs = io.StringIO(), list[dict[str, Any]]()
            plt.show = lambda said=said, to=outputs: to.extend([*printed(said), *drawn()])
            with contextlib.redirect_stdout(said):
                exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), names)
            cell["execution_count"] = count
            cell["outputs"] = [*outputs, *printed(said), *drawn()]
    finally:
        plt.show = show


def remade(text: str) -> str:
    notebook = json.loads(text)
    run(notebook["cells"])
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(remade(NOTEBOOK.read_text(encoding="utf-8")), encoding="utf-8")
