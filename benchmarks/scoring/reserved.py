"""Names of methods with a meaning of their own, in plans, rows and tables. In: nothing. Out:
constants.
"""

OURS = "perfusion"  # what the others are compared with: differences, fronts, ablations
# baselines/super_category.py: plain words, nothing learned; text similarity is relative to it
FLOOR = "super"
# no method: rows of a concept's own images against each other, the ceiling of image similarity
REAL = "real"
# what run.json calls the base of a method whose pictures were made elsewhere
IMPORTED = "imported"
