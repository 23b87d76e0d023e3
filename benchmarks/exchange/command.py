"""The verbs of exchange: what other programs made comes in, what was made here goes out to them."""
