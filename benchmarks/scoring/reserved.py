"""Names of methods with a meaning of their own, in plans, rows and tables. In: nothing. Out: two constants."""

FLOOR = "super"  # baselines/super_category.py: plain words, nothing learned; text similarity is relative to it
REAL = "real"  # no method: rows of a concept's own images against each other, the ceiling of image similarity
