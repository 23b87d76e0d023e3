"""A drawn world small enough to be learned completely, and the tiny models trained on it.

Reading order: world/ (how everything is drawn and said), training/ (how the models learn it),
shipped (the concepts, byte for byte) and worlds (any number of others), which_world (which
generation of models weights and runs are of), opening (the models, opened and drawn with), show and
sheet (pictures for people), shipped_xl (into the package with miniature-xl), command. The weights
lie in weights/, in diffusers layout; beside them, in weights-xl/, what only miniature-xl has.
"""
