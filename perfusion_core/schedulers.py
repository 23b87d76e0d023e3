"""Schedulers by the names that people know them by. In: a name and a backbone. Out: one of
diffusers', with the checkpoint's own betas and kind of prediction. Imports no torch by itself.
"""

import inspect
from typing import Any

from perfusion_core.errors import UserError, unknown

DDIM = "ddim"  # the protocol's, which `Backbone.scheduler` makes
# name -> diffusers' class, and what it is told beside the checkpoint's configuration
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    DDIM: ("DDIMScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "dpm++2m": ("DPMSolverMultistepScheduler", {}),
    "dpm++2m-karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


def made(name: str, backbone: Any) -> Any:
    """A fresh scheduler of that name for this backbone."""
    if name not in SCHEDULERS:
        raise unknown("scheduler", name, SCHEDULERS)
    if name == DDIM:
        return backbone.scheduler()
    import diffusers

    from perfusion_core.noise_levels import is_flow

    if is_flow(backbone.pipe.scheduler):
        raise UserError(not_by_flow(name, backbone.name))
    kind, more = SCHEDULERS[name]
    return getattr(diffusers, kind).from_config(backbone.pipe.scheduler.config, **more)


def not_by_flow(name: str, backbone: str) -> str:
    """Why a model of flow matching is drawn by none of the others."""
    return (
        f"the backbone {backbone} was trained by flow matching, and the scheduler {name} is for "
        f"models that predict noise; leave it out: {DDIM} is Euler's method there"
    )


def step_takes(scheduler: Any, argument: str) -> bool:
    """Whether a step is told this; diffusers' schedulers differ."""
    return argument in inspect.signature(scheduler.step).parameters
