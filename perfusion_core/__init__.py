"""Perfusion: key-locked, gated rank-one editing of text-to-image models.

The names below are loaded on first use, so that importing the package (for its errors, say) costs
no torch.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["Backbone", "Concept", "UserError", "load_concepts"]

_HOMES = {
    "Backbone": "backbone",
    "Concept": "concept",
    "UserError": "errors",
    "load_concepts": "editing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'perfusion_core' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"perfusion_core.{_HOMES[name]}"), name)
