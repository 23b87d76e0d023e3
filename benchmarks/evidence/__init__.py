"""What the paper claims, against what was measured here: `python -m benchmarks.evidence` writes docs/claims.md."""

LOOKED = "looked.csv"  # in a run folder, what looks.py wrote
