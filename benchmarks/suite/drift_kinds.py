"""Kinds of cells that measure what a loaded concept does to everything else: pictures of prompts
that do not name it, and of its plain class word. None of them is a picture of the protocol.

In: nothing. Out: constants.
"""

DRIFT, DRIFT_CLASS = "drift", "drift_class"
DRIFTS = (DRIFT, DRIFT_CLASS)
PIXELS = "drift_pixels"
OF_DRIFT = (*DRIFTS, PIXELS)  # measures that such cells have, and no other
# where the plain backbone's pictures of these lie, as if a concept: no concept can have this name
PLAIN = "plain-words"
