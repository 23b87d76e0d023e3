"""What a word attends to: measured, kept, drawn.

Reading order: known_pictures (whose truth is known), measuring (the verb), leakage (what is kept),
drawing.
"""
