"""What the paper claims, against what was measured here: `python -m benchmarks.evidence` writes docs/claims.md."""

LOOKED, LOOKED_CELLS = "looked.csv", "looked-cells.csv"  # in a run folder, what looks.py wrote
