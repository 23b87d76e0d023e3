"""A run folder: where things lie in it, and how they get there whole."""
