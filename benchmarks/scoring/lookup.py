"""Scorers by name: where they are and what their bytes are called. Loads no weights.

In: a name, a folder, MODEL:TAG. Out: a `Scorer`, whose name ends in its digest.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.digests import canonical, digest
from benchmarks.scoring.measures import is_ambiguous
from benchmarks.scoring.modern import MODERN, REFUSED, SHORT
from perfusion_core.errors import UserError
from perfusion_core.hub import announce_download
from perfusion_core.weight_digests import file_sha256

SD_SCORER = "clip:ViT-B-32-quickgelu:openai"  # the reported one on photographs
SD_SELECTOR = "clip:ViT-B-32:laion2b_s34b_b79k"  # picks training steps: other data, never reported
DINO = {
    "dino": "timm:vit_small_patch16_224.dino",
    "dinov2": "timm:vit_small_patch14_dinov2.lvd142m",
}
PIXELS = (
    "size",
    "crop_size",
    "image_mean",
    "image_std",
    "resample",
    "input_size",
    "mean",
    "std",
    "interpolation",
    "crop_pct",
    "crop_mode",
)


@dataclass(frozen=True)
class Scorer:
    """One scorer: its name ends in 8 characters of its digest, so another model can never pass for
    it.
    """

    name: str
    kind: str  # clip, timm, timm-cls, dino, truth, judge, ratings
    source: str  # a folder, MODEL:TAG of open_clip, a judge's address
    weights: str  # sha256
    preprocessing: str  # digest of what decides it
    pixels: str = ""  # how pictures become the model's input, for people


JUDGE, RATINGS = "judge", "ratings"
PICTURES_ONLY = ("timm", "timm-cls", "dino")  # kinds to which texts are nothing
# kinds of which a picture may have a row and no score: somebody was asked, and said nothing
MAY_BE_SILENT = (JUDGE, RATINGS)


def is_judge(scorer: str) -> bool:
    """By what is typed: a model behind an address."""
    return scorer.startswith(f"{JUDGE}:")


def knows_pictures_only(scorer: str) -> bool:
    name = long_name(scorer)
    return name.partition(":")[0] in PICTURES_ONLY and ":" in name and not Path(name).is_dir()


def long_name(given: str) -> str:
    """What a short name stands for."""
    return SHORT[given].given if given in SHORT else DINO.get(given, given)


def find_scorer(given: str, backbone: str, place: Path, selects: bool = False) -> Scorer:
    """`auto`, a folder with an open_clip model, clip:MODEL:TAG, dino, dinov2, timm:MODEL,
    timm-cls:MODEL, dino:HUB_ID, one of `modern`, truth, or judge:URL#MODEL.
    """
    if (why := REFUSED.get(given.partition(":")[0])) and not Path(given).is_dir():
        raise UserError(why)
    if given == "auto":
        folder = place / ("scorer2" if selects else "scorer")
        if place.is_dir() and folder.is_dir():
            return _folder_scorer(folder, f"{backbone}-{folder.name}")
        given = SD_SELECTOR if selects else SD_SCORER
    if is_judge(given):
        if selects:
            raise UserError(
                "a judge cannot pick training steps, since it would be asked at each of them; "
                "choose another: --set select_scorer=NAME"
            )
        return judge_scorer(given.partition(":")[2])
    if given == "truth" and not selects:  # nothing may be fitted to it
        return _truth(place, backbone)
    given = long_name(given)
    if Path(given).is_dir():
        return _folder_scorer(Path(given), Path(given).resolve().name)
    kind, _, source = given.partition(":")
    if kind == "clip" and source.count(":") == 1:
        return _named_clip(source)
    if kind in PICTURES_ONLY and source:
        return _vision(kind, source)
    raise UserError(
        f"unknown scorer {given!r} (known: auto, truth, {MODERN}, "
        f"{', '.join((*DINO, *SHORT))}, timm:MODEL_OR_FOLDER, timm-cls:MODEL_OR_FOLDER, "
        f"dino:FOLDER_OR_HUB_ID, judge:URL#MODEL, a folder with open_clip_config.json, "
        f"clip:MODEL:TAG such as {SD_SCORER})"
    )


def _folder_scorer(folder: Path, name: str) -> Scorer:
    config, weights = folder / "open_clip_config.json", folder / "open_clip_model.safetensors"
    for path in (config, weights):
        if not path.is_file():
            raise UserError(f"{folder} is not a scorer: there is no {path.name} in it")
    about = json.loads(config.read_text(encoding="utf-8"))
    pixels = {
        "side": about["model_cfg"]["vision_cfg"].get("image_size"),
        **about.get("preprocess_cfg", {}),
    }
    return _scorer(name, "clip", str(folder.resolve()), file_sha256(weights), digest(about), pixels)


def _truth(place: Path, backbone: str) -> Scorer:
    """The judges of a drawn world: they know what is true of its pictures."""
    from benchmarks.miniature.training.judges import FOLDER, judges_digest

    if not (place / FOLDER).is_dir():
        raise UserError(
            f"the scorer truth needs judges, which the backbone {backbone} has not; leave it "
            f"out, or use the miniature, which has them"
        )
    return _scorer("truth", "truth", str(place.resolve()), judges_digest(place), "", {})


def judge_scorer(source: str) -> Scorer:
    """A model behind an address; its name ends in the digest of what it is asked."""
    from benchmarks.scoring import chat_endpoint, judge_question

    address, asked = chat_endpoint.address_of(source), judge_question.prompt_digest()
    chat_endpoint.key()  # a bad one is told before anything is done
    model = plain_word(address.model)
    if model != address.model:  # two models must not share a name
        model = f"{model}-{digest(address.model)[:8]}"
    return Scorer(
        f"{JUDGE}-{model}-{asked[:8]}", JUDGE, source, digest([JUDGE, address.model]), asked,
        canonical({"side": judge_question.SIDE, "references": judge_question.REFERENCES}),
    )  # fmt: skip


def plain_word(name: str) -> str:
    """What of a name may stand in names of files and columns."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


def _named_clip(source: str) -> Scorer:
    import open_clip

    model, tag = source.split(":")
    if source.replace(":", "/") not in {"/".join(pair) for pair in open_clip.list_pretrained()}:
        raise UserError(
            f"open_clip has no {model} with weights {tag}; `open_clip.list_pretrained()` shows "
            f"what it has"
        )
    about = open_clip.get_pretrained_cfg(model, tag)
    wants, has = (
        about.get("quick_gelu", False),
        open_clip.get_model_config(model).get("quick_gelu", False),
    )
    if wants != has:  # open_clip only warns, and the scores would silently be another model's
        right = f"{model}-quickgelu" if wants else model.removesuffix("-quickgelu")
        raise UserError(
            f"clip:{source} joins weights and an activation that do not belong together; use "
            f"clip:{right}:{tag}"
        )
    if about.get("hf_hub"):
        announce_download(about["hf_hub"].strip("/"), ["open_clip_model.safetensors"])
    try:
        path = Path(open_clip.download_pretrained(about))
    except OSError as error:
        raise _unfetched(f"clip:{source}", error) from error
    if path.suffix != ".safetensors":
        raise UserError(
            f"clip:{source}: its weights are {path.name}, a pickle, which is never read; choose "
            f"other weights"
        )
    side = open_clip.get_model_config(model)["vision_cfg"]["image_size"]
    pixels = {
        "side": side,
        **{key: about[key] for key in ("mean", "std", "interpolation", "resize_mode")},
    }
    what = digest({k: v for k, v in about.items() if k != "url"})
    return _scorer(f"{model}-{tag}", "clip", source, file_sha256(path), what, pixels)


def _vision(kind: str, source: str) -> Scorer:
    """A model of pictures alone: timm's (a name or a folder), or transformers' (a folder or a hub
    id).
    """
    folder = Path(source)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        hub_id = f"timm/{source}" if kind.startswith("timm") and "/" not in source else source
        patterns = ["*.json", "model.safetensors"]
        announce_download(hub_id, patterns)
        try:
            folder = Path(snapshot_download(hub_id, allow_patterns=patterns))
        except (OSError, ValueError) as error:
            raise _unfetched(f"{kind}:{source}", error) from error
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UserError(f"{kind}:{source}: there is no model.safetensors; pickles are never read")
    configs = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*config.json"))
    ]
    pixels = {
        key: value
        for about in configs
        for key, value in about.get("pretrained_cfg", about).items()
        if key in PIXELS
    }
    name = source.rsplit("/", 1)[-1]
    name = f"dino-{name}" if kind == "dino" else f"{name}-cls" if kind == "timm-cls" else name
    return _scorer(name, kind, str(folder), file_sha256(weights), digest(configs), pixels)


def _unfetched(scorer: str, error: BaseException) -> UserError:
    why = str(error).strip().splitlines()[0]
    return UserError(
        f"cannot fetch the scorer {scorer}: {why}; give the same command once with a network, or "
        f"the folder of a model "
        "that is here: --scorers FOLDER, and --set select_scorer=FOLDER for the one that picks "
        "training steps"
    )


def _scorer(
    name: str, kind: str, source: str, weights: str, preprocessing: str, pixels: Mapping[str, Any]
) -> Scorer:
    version = digest([kind, weights, preprocessing])[:8]
    if is_ambiguous(f"{plain_word(name)}-{version}"):
        raise UserError(
            f"a scorer cannot be called {plain_word(name)!r}: its columns would be read as those "
            f"of a measure; rename its folder"
        )
    return Scorer(
        f"{plain_word(name)}-{version}", kind, source, weights, preprocessing, canonical(pixels)
    )
