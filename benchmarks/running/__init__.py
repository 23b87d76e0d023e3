"""Doing it: a plan in, a filled run folder out."""
