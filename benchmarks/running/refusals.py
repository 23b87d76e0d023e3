"""What is refused of a run because of the backbone's kind, before anything is fetched.

In: a Config, a `Kind`. Out: nothing, or one sentence.
"""

from collections.abc import Iterable

from benchmarks.planning.config import Config
from benchmarks.planning.kinds import XL, Kind, kind_here
from benchmarks.planning.methods import resolve_methods
from benchmarks.planning.units import Method
from perfusion_core.errors import UserError
from perfusion_core.perfusion_settings import POOLED
from perfusion_core.schedulers import DDIM, not_by_flow


def refuse_known(config: Config, others: Iterable[Method] = ()) -> bool:
    """By what is here; whether anything is known of the backbone. `others`: methods beside the
    configured ones.
    """
    kind = kind_here(config.backbone, config.revision)
    if kind:
        refuse_unfit(kind, config, others)
    return kind is not None


def refuse_unfit(kind: Kind, config: Config, others: Iterable[Method] = ()) -> None:
    """All that a backbone of this kind has no place for."""
    refuse_preset(kind, config.preset)
    refuse_scheduler(kind, config.scheduler)
    chosen = (*resolve_methods(config, kind.miniature(config.recipe)), *others)
    refuse_projected(kind, chosen)
    refuse_two_encoders(kind, chosen)
    refuse_unpooled(kind, chosen)


def refuse_preset(kind: Kind, preset: str) -> None:
    """That of Stable Diffusion XL on other models, whose numbers would bear its name."""
    if preset == XL and not kind.joint:
        raise UserError(
            f"--preset {preset} is the protocol of backbones with two text encoders, as Stable "
            f"Diffusion XL's, and {kind.name} has one; give another preset, such as paper"
        )


def refuse_scheduler(kind: Kind, name: str) -> None:
    """By name, where a model of flow matching is drawn in one way alone."""
    if kind.flow and name != DDIM:
        raise UserError(not_by_flow(name, kind.name))


def refuse_projected(kind: Kind, chosen: Iterable[Method]) -> None:
    """By methods that train a U-Net, where there is a transformer behind a projection."""
    found = list(dict.fromkeys(method.base for method in chosen if method.unet_only))
    if kind.captioned and found:
        verb = "trains" if len(found) == 1 else "train"
        raise UserError(
            f"the backbone {kind.name} is of PixArt's or Sana's kind, and {', '.join(found)} "
            f"{verb} a U-Net; use the method perfusion there"
        )


def refuse_two_encoders(kind: Kind, chosen: Iterable[Method]) -> None:
    """By methods whose words one text encoder knows."""
    found = list(dict.fromkeys(method.base for method in chosen if method.one_encoder))
    if kind.joint and found:
        verb = "reads" if len(found) == 1 else "read"
        raise UserError(
            f"the backbone {kind.name} has two text encoders, and {', '.join(found)} {verb} one; "
            f"leave {'it' if len(found) == 1 else 'them'} out of --methods"
        )


def refuse_unpooled(kind: Kind, chosen: Iterable[Method]) -> None:
    """By methods that say whose text is pooled, where no U-Net reads pooled text: their pictures
    would be those of the method itself.
    """
    usual = POOLED[0]
    found = [method.name for method in chosen if method.config.get("pooled", usual) != usual]
    if found and not kind.joint:
        raise UserError(
            f"{', '.join(found)} differs in whose text is pooled, and the U-Net of "
            f"{kind.name} reads no pooled text; leave it out, or take a backbone of Stable "
            f"Diffusion XL's kind"
        )
