"""What to type where the core, which knows no command, says what is missing.

In: an error. Out: its sentence, with the `perfbench` command that mends it.
"""

from perfusion_core.errors import MissingClassImages, MissingCovariance, MissingMasks, NotAConcept


def advice(error: BaseException) -> str:
    """The command that mends this error; empty where its sentence is enough."""
    if isinstance(error, MissingCovariance):
        where = f" --backbone {error.backbone}" if error.backbone else ""
        return f"estimate it: perfbench covariance{where}"
    if isinstance(error, MissingMasks):
        return "`perfbench masks` makes them"
    if isinstance(error, MissingClassImages):
        return "`perfbench run` makes them"
    if isinstance(error, NotAConcept):
        return "concepts are made by `perfbench fit perfusion`"
    return ""


def advised(error: BaseException) -> str:
    """The sentence of an error, and what to type."""
    return "; ".join(filter(None, (str(error), advice(error))))
