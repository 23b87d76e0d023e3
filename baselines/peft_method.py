"""`fit` and `apply` of a method that is one kind of peft's adapters: alike in all of them.

In: what of peft's the method is, and its recipe in peft's words, both as functions of its file.
Out: the two functions of the method contract, as if they stood in that file. Imports no torch: a
plan reads such a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from baselines.peft_adapters import AdapterRecipe
    from baselines.peft_files import Kind
    from perfusion_core.backbone import Backbone
    from perfusion_core.subject import Fitted, Subject
    from perfusion_core.training import Progress, Validation, Write

    Apply = Callable[
        [Backbone, Mapping[str, Fitted], Mapping[str, Any]], AbstractContextManager[Write]
    ]
    Check = Callable[[Backbone, Any], None]

Function = TypeVar("Function", bound=Callable[..., Any])


def fit_of(
    adapter: Callable[[], Kind],
    settings_of: Callable[[Any], Mapping[str, Any]],
    check: Check | None = None,
) -> Callable[..., dict[str, Any]]:
    """The training. `check` refuses a backbone that a recipe does not fit; a recipe with a
    `prior_weight` learns beside class images.
    """

    def fit(
        backbone: Backbone,
        subject: Subject,
        config: AdapterRecipe,
        out: Path,
        *,
        seed: int,
        prior: Any = None,
        validate: Validation | None = None,
        keep: Iterable[int] = (),
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Train, and leave what `PeftModel.from_pretrained` opens in `out`."""
        from baselines.peft_adapters import train_adapter

        if check:
            check(backbone, config)
        return train_adapter(
            adapter(),
            settings_of(config),
            backbone,
            subject,
            config,
            out,
            seed=seed,
            prior=prior,
            prior_weight=getattr(config, "prior_weight", None),
            validate=validate,
            keep=keep,
            progress=progress,
        )

    return at_home(fit, adapter)


def apply_of(adapter: Callable[[], Kind], told: str) -> Apply:
    """The drawing; `told`: what becomes of several concepts, in words."""

    @contextmanager
    def apply(
        backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]
    ) -> Iterator[Write]:
        from baselines.peft_adapters import adapters

        with adapters(adapter(), backbone, fits, point) as write:
            yield write

    apply.__doc__ = told
    return at_home(apply, adapter)


def at_home(function: Function, adapter: Callable[[], Kind]) -> Function:
    """As people and tools look for it: by its name in the method's own file."""
    function.__module__, function.__qualname__ = adapter.__module__, function.__name__
    return function
