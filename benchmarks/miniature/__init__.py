"""The miniature: a drawn world small enough to be learned completely, and the tiny models trained on it."""
