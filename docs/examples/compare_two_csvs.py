"""Which of two tables of scores is ahead? They need no run: any two CSV files will do.

    python docs/examples/compare_two_csvs.py ours.csv theirs.csv score concept,prompt 0.02

Rows are paired by the named columns; the interval is over the first of them, which is what was
replicated. The same at the command line: perfbench compare ours.csv theirs.csv.
"""

import sys

import pandas as pd

from benchmarks.api import compare


def main(a: str, b: str, score: str, by: str, margin: str) -> None:
    columns = by.split(",")
    found = compare(pd.read_csv(a), pd.read_csv(b), columns, score=score, margin=float(margin))
    gap = found.difference
    print(f"A less B: {gap.value:+.4f}, 95 % interval {gap.lo:+.4f} to {gap.hi:+.4f}")
    print(f"over {found.clusters} values of {columns[0]}: {found.verdict}")

    # Why not a t-test over rows? Rows of one concept share its luck, so they are not independent.
    frames = [
        pd.read_csv(path).set_index(columns)[score].groupby(columns).mean() for path in (a, b)
    ]
    rows = (frames[0] - frames[1]).dropna()
    naive = 1.96 * rows.std() / len(rows) ** 0.5
    honest = (gap.hi - gap.lo) / 2
    print(f"half an interval over {len(rows)} rows would be {naive:.4f}; it is {honest:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:6])
