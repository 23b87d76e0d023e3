"""The drawn world: how everything looks, and what is said of it."""
