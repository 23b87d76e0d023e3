"""Pictures in, scores out: the scorers by name, and the rows they give."""
