"""The models of a run by name: where they are and what their bytes are called. Loads no weights.

In: a Config. Out: `Models`, which travels to every worker, and the `Facts` that keys are made of.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.devices import device_name, device_type
from benchmarks.miniature.which_world import world_of_weights
from benchmarks.paths import backbone_names, backbone_place
from benchmarks.planning.config import Config
from benchmarks.planning.kinds import LARGE, XL, Kind, kind_of, picture_size
from benchmarks.planning.units import Facts
from benchmarks.scoring.lookup import Scorer, find_scorer, is_judge, knows_pictures_only
from benchmarks.scoring.modern import spelled_out
from perfusion_core.errors import UserError
from perfusion_core.hardware import fast_dtype_name, has_gpu
from perfusion_core.places import (
    COVARIANCE,
    cached,
    locate,
    locate_vae,
    refuse_other_latents,
    variant_of,
)
from perfusion_core.weight_digests import (
    backbone_digest,
    file_sha256,
    joint_digest,
    text_digest_of_files,
    vae_digest,
)

SMALL = 128  # pixels; a larger picture keeps a processor busy in a smaller batch


@dataclass(frozen=True)
class Vae:
    """One that stands in for the backbone's own."""

    name: str
    place: str
    digest: str
    revision: str = ""  # of one from the hub


@dataclass(frozen=True)
class Models:
    """The backbone and the scorers of a benchmark."""

    name: str
    place: str
    revision: str
    digest: str
    covariance: str
    dtype: str
    size: int  # pixels of a side
    rows: int  # of the U-Net's batch
    miniature: bool  # methods take the recipe tuned for small models
    scorers: tuple[Scorer, ...]
    selector: Scorer
    compiled: bool = False
    world: str = ""  # the miniature's generation; empty for other models
    joint: bool = False  # its U-Net is told the size of each photograph
    vae: Vae | None = None
    captioned: bool = False  # of PixArt's or Sana's kind: a transformer, text behind a projection

    @property
    def facts(self) -> Facts:
        selector, rows = self.selector.name, self.rows
        vae = self.vae.digest if self.vae else ""
        return Facts(self.digest, self.covariance, self.dtype, selector, rows, self.compiled, vae)


def find_models(config: Config, check: Callable[[Kind], None] | None = None) -> Models:
    """Locate everything; fetches what has to be fetched. `check` is told of the backbone's kind
    before a scorer is looked for.
    """
    here = backbone_place(config.backbone)
    config = replace(config, scorers=tuple(spelled_out(config.scorers, here)))
    check_texts(config)
    name, place, revision = locate(config.backbone, config.revision or None, backbone_names())
    kind = kind_of(name, place)
    if check:
        check(kind)
    device = device_name(config.device, elsewhere=config.engine == "ray")
    if config.dtype == "auto" and device_type(device) == "cuda" and not has_gpu():
        raise UserError(
            "dtype auto looks at the GPU, and this machine has none: give --dtype bfloat16 or "
            "float16"
        )
    dtype = fast_dtype_name(device) if config.dtype == "auto" else config.dtype
    scorers = tuple(find_scorer(scorer, name, place) for scorer in config.scorers)
    selector = find_scorer(config.select_scorer, name, place, selects=True)
    if selector.weights in {scorer.weights for scorer in scorers}:
        raise UserError(
            f"select_scorer {config.select_scorer!r} is also a reported scorer, so it must not "
            f"pick training steps too; choose another: --set select_scorer=NAME"
        )
    if len({scorer.name for scorer in scorers}) < len(scorers):
        raise UserError(f"scorers={','.join(config.scorers)} names one scorer twice; leave one out")
    digest = backbone_digest(place)
    return Models(
        name=name,
        place=str(place.resolve()),
        revision=revision or "",
        digest=digest,
        covariance=covariance_digest(place),
        dtype=dtype,
        size=(size := picture_size(place)),
        rows=config.rows or usual_rows(size),
        miniature=kind.miniature(config.recipe),
        scorers=scorers,
        selector=selector,
        compiled=config.compile,
        world=world_of_weights(place, digest),
        joint=kind.joint,
        vae=find_vae(config.vae, place) if config.vae else None,
        captioned=kind.captioned,
    )


def find_vae(given: str, backbone: Path) -> Vae:
    """Located, and refused where its configuration is none for this backbone."""
    name, place, revision = locate_vae(given)
    refuse_other_latents(name, vae_config(backbone / "vae"), vae_config(place))
    return Vae(name, str(place.resolve()), vae_digest(place), revision or "")


def vae_config(folder: Path) -> dict[str, Any]:
    """What it tells; nothing of a single file, or where it is damaged."""
    try:
        return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def vae_note(models: Models) -> str:
    """What to type where float16 was asked for, and the VAE leaves its range; else empty."""
    if models.dtype != "float16" or not models.joint or models.vae or not leaves_float16(models):
        return ""
    return (
        f"the VAE of {models.name} leaves float16's range, so it stays in float32; --vae fp16-fix "
        f"takes one that was made for float16, with keys and numbers of its own"
    )


def preset_note(models: Models, preset: str) -> str:
    """What to type where a model as large as Stable Diffusion XL gets a protocol that is not meant
    for it; else empty.
    """
    if preset == XL or not models.joint or models.miniature or models.size < LARGE:
        return ""
    return (
        f"{models.name} is of Stable Diffusion XL's kind and size: --preset {XL} has its "
        f"scheduler, its guidance and recipes for it"
    )


def leaves_float16(models: Models) -> bool:
    """Whether the backbone's VAE says so, or says nothing."""
    return bool(vae_config(Path(models.place) / "vae").get("force_upcast", True))


def check_texts(config: Config) -> None:
    """The reported scorer and the one that picks training steps have to know texts; refused before
    one is fetched.
    """
    first, selector = config.scorers[:1], config.select_scorer
    if any(map(is_judge, first)):
        raise UserError(
            "a judge may say nothing of a picture, and the first scorer has to score them all: "
            "name another before it, for example --scorers auto,judge:URL#MODEL"
        )
    if any(map(is_judge, config.scorers)) and config.engine != "inline":
        raise UserError(
            f"a judge is asked by one process, not by --engine {config.engine}: run without it, "
            f"then `perfbench score RUN --scorers judge:URL#MODEL --limit N`"
        )
    if any(map(knows_pictures_only, first)):
        with_texts = ",".join(dict.fromkeys(("auto", *config.scorers)))
        raise UserError(
            f"{first[0]!r} sees pictures only, and no table can be made without text similarity "
            f"by the first scorer: "
            f"name one that knows texts before it, for example --scorers {with_texts}"
        )
    if knows_pictures_only(selector):
        raise UserError(
            f"select_scorer {selector!r} sees pictures only, and training steps are picked by "
            f"text similarity, too: "
            "leave it out, or name a CLIP model or its folder"
        )


def covariance_digest(place: Path) -> str:
    """Of the backbone's C, in its folder or in the cache; empty where none was estimated."""
    path = place / COVARIANCE
    if not (place.is_dir() and path.is_file()):
        path = cached(text_digest_of_files(place) or _text_digest(place))
    return file_sha256(path)[:16] if path.is_file() else ""


def _text_digest(place: Path) -> str:
    """Of what cross-attentions read, loaded where files alone do not tell the weights."""
    if place.is_dir() and not (place / "transformer").is_dir():
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        kinds: dict[str, Any] = {
            "text_encoder": CLIPTextModel,
            "text_encoder_2": CLIPTextModelWithProjection,
        }
        return joint_digest(
            [
                kind.from_pretrained(place / part, use_safetensors=True, variant=variant_of(place))
                for part, kind in kinds.items()
                if (place / part).is_dir()
            ]
        )
    import torch

    from perfusion_core.backbone import load_pipeline
    from perfusion_core.text_encoders import text_encoders

    return text_encoders(load_pipeline(place, torch.float32)).digest()


def usual_rows(size: int) -> int:
    """Rows of a batch of the U-Net, by the side of the pictures: a number of the protocol, never of
    the machine.
    """
    if size >= LARGE:
        return 4
    return 32 if size <= SMALL else 16
