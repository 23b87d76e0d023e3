"""The drawn world: how everything looks, and what is said of it.

Reading order: canvas (a pen), instance (what makes one cat this cat), animals, things, scenes,
props, effects (parts of a picture), picture (all of it, with its mask), language (a picture in
words, and back).
"""
