"""Names for weights: of a backbone's files on disk, and of a text encoder in memory whatever its
dtype.

In: a folder, or a model. Out: 16 hexadecimal digits. Imports no torch, so that plans can be made
without it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakKeyDictionary

from perfusion_core.hub import VAE_FILES, used, variant_in

WITHIN = ".base_layer."  # in the name of a layer that an adapter stands around
# until a weight is written to
_digests: WeakKeyDictionary[Any, tuple[list[Any], str]] = WeakKeyDictionary()


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def backbone_digest(place: Path) -> str:
    """Of all files that decide what a backbone draws; `place`: a folder in diffusers layout, or one
    file.
    """
    if place.is_file():
        beside = place.with_suffix(".yaml")  # says what the U-Net predicts (single_file.py)
        more = [file_sha256(beside)] if beside.is_file() else []
        parts = "".join([file_sha256(place), *more])
        return hashlib.sha256(parts.encode()).hexdigest()[:16] if more else parts[:16]
    total = hashlib.sha256()
    paths = (path.relative_to(place) for path in place.rglob("*") if path.is_file())
    # in the order of their names, model_index.json first
    for name in used(path.as_posix() for path in paths):
        total.update(f"{name} {file_sha256(place / name)}\n".encode())
    return total.hexdigest()[:16]


def vae_digest(place: Path) -> str:
    """Of the files of a VAE that stands in for a backbone's own."""
    told = "".join(
        f"{name} {file_sha256(place / name)}\n" for name in VAE_FILES if (place / name).is_file()
    )
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def text_digest(text_encoder: Any, vocabulary: int | None = None) -> str:
    """Of a text encoder's weights, by their signs; of the first `vocabulary` words only.

    Signs survive rounding to half precision, so a checkpoint has one digest in every dtype; any
    training flips some. Words that were added to the table are no part of the encoder's name, and
    neither are adapters around its layers.
    """
    words = text_encoder.get_input_embeddings().weight
    if vocabulary == len(words) == text_encoder.config.vocab_size:
        vocabulary = None  # one digest, found once
    weights = without_adapters(text_encoder.named_parameters())
    stamp: list[Any] = [(one.data_ptr(), one._version, one.dtype) for one in weights.values()]
    stamp.append(vocabulary)
    if text_encoder in _digests and _digests[text_encoder][0] == stamp:
        return _digests[text_encoder][1]
    named = (
        (name.removeprefix("text_model."), weight[:vocabulary] if weight is words else weight)
        for name, weight in weights.items()
    )
    signs = (
        (name, tuple(weight.shape), weight.detach().signbit().cpu().numpy())
        for name, weight in sorted(named, key=itemgetter(0))
    )
    shape = text_shape(text_encoder, vocabulary)
    _digests[text_encoder] = stamp, _digest_of_signs(shape, signs)
    return _digests[text_encoder][1]


def without_adapters(named: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The weights under their plain names: of a layer that peft has wrapped, the layer within."""
    found = dict(named)
    wrapped = {name.partition(WITHIN)[0] for name in found if WITHIN in name}
    return {
        name.replace(WITHIN, "."): weight
        for name, weight in found.items()
        if WITHIN in name or not any(name.startswith(f"{layer}.") for layer in wrapped)
    }


def text_shape(text_encoder: Any, vocabulary: int | None = None) -> str:
    """What has to agree for a concept to fit: vocabulary x width x layers, and the output that the
    U-Net reads. `vocabulary`: of so many words only, where others were added.
    """
    config = text_encoder.config
    return _shape(vocabulary or config.vocab_size, config.hidden_size, config.num_hidden_layers)


def _shape(vocabulary: int, width: int, layers: int) -> str:
    return f"{vocabulary}x{width}x{layers}:last_hidden_state"


def joint_digest(text_encoders: Sequence[Any], vocabulary: int | None = None) -> str:
    """Of all the text encoders whose outputs are read side by side; of one, its own."""
    return _joined(
        joint_shape(text_encoders, vocabulary),
        [text_digest(encoder, vocabulary) for encoder in text_encoders],
    )


def joint_shape(text_encoders: Sequence[Any], vocabulary: int | None = None) -> str:
    """`text_shape` of all of them: several are read at their penultimate outputs."""
    return _joint_shape([text_shape(encoder, vocabulary) for encoder in text_encoders])


def caption_digest(
    text_encoder: Any, between: Mapping[str, Any], vocabulary: int | None = None
) -> str:
    """Of a text encoder and of what stands between it and the cross-attentions, by the signs of
    both: encodings are those of both.
    """
    weights = {
        f"{part}.{name}": weight
        for part, module in between.items()
        for name, weight in without_adapters(module.named_parameters()).items()
    }
    signs = (
        (name, tuple(weight.shape), weight.detach().signbit().cpu().numpy())
        for name, weight in sorted(weights.items())
    )
    shape = caption_shape(text_encoder, between, vocabulary)
    own = _digest_of_signs(shape, signs)
    return _hashed(" ".join([shape, text_digest(text_encoder, vocabulary), own]))


def caption_shape(
    text_encoder: Any, between: Mapping[str, Any], vocabulary: int | None = None
) -> str:
    """`text_shape`, but with the last module that the output goes through, and its width."""
    words = text_shape(text_encoder, vocabulary).partition(":")[0]
    width = between["caption_projection"].linear_2.out_features
    return f"{words}:{list(between)[-1]}[{width}]"


def widths_in(shape: str) -> list[int]:
    """The width of each text encoder that a shape tells of: a learned word has so many numbers."""
    try:
        return [int(one.split("x")[1]) for one in shape.partition(":")[0].split("+")]
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"text_shape {shape!r} is not like 49408x768x12:last_hidden_state"
        ) from error


def is_behind(shape: str) -> bool:
    """Whether encodings are those behind a projection of the text encoder's output."""
    return shape.partition(":")[2].startswith("caption_")


def encoding_width(shape: str) -> int:
    """d of the encodings that a shape tells of: those behind a projection have their own."""
    told = shape.partition(":")[2]
    return int(told.partition("[")[2].rstrip("]")) if is_behind(shape) else sum(widths_in(shape))


def _joint_shape(shapes: Sequence[str]) -> str:
    if len(shapes) == 1:
        return shapes[0]
    return "+".join(shape.partition(":")[0] for shape in shapes) + ":hidden_states[-2]"


def _joined(shape: str, digests: Sequence[str]) -> str:
    if len(digests) == 1:
        return digests[0]
    return _hashed(" ".join([shape, *digests]))


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digest_of_signs(shape: str, signs: Iterable[tuple[str, tuple[int, ...], Any]]) -> str:
    """In the order of their names: each weight's name, shape and signs."""
    import numpy as np

    total = hashlib.sha256(shape.encode())
    for name, sizes, negative in signs:
        total.update(f"{name} {sizes}".encode())
        total.update(np.packbits(negative).tobytes())
    return total.hexdigest()[:16]


# ---- the same from files ----

# bytes of a number, whose sign is the last byte's highest bit
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
SHAPE = ("vocab_size", "hidden_size", "num_hidden_layers")
MORE = ("intermediate_size", "max_position_embeddings")


def text_digest_of_files(place: Path) -> str | None:
    """The digest of the text encoders of a folder in diffusers layout, which are not loaded for it.

    None where the files are anything but CLIP's own weights in one file: then only loading tells.
    """
    parts = [part for part in ("text_encoder", "text_encoder_2") if (place / part).is_dir()]
    found = [_digest_of_part(place, part) for part in parts]
    told = [one for one in found if one is not None]
    if not found or len(told) < len(found):
        return None
    return _joined(_joint_shape([shape for shape, _ in told]), [digest for _, digest in told])


def _digest_of_part(place: Path, part: str) -> tuple[str, str] | None:
    """The shape and the digest of one text encoder."""
    variant = variant_in(path.relative_to(place).as_posix() for path in place.glob("unet/*"))
    weights = place / part / (f"model.{variant}.safetensors" if variant else "model.safetensors")
    config = place / part / "config.json"
    if not (weights.is_file() and config.is_file()):
        return None
    about = json.loads(config.read_text(encoding="utf-8"))
    if about.get("model_type") != "clip_text_model" or not about.keys() >= {*SHAPE, *MORE}:
        return None
    with weights.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        tensors = {
            name.removeprefix("text_model."): one
            for name, one in header.items()
            if name != "__metadata__"
        }
        tensors.pop("embeddings.position_ids", None)  # whole numbers, in older files
        if {name: tuple(one["shape"]) for name, one in tensors.items()} != _clip_shapes(about):
            return None
        if not {one["dtype"] for one in tensors.values()} <= SIZES.keys():
            return None
        signs = (
            (name, tuple(one["shape"]), _signs(stream, 8 + length, one))
            for name, one in sorted(tensors.items())
        )
        shape = _shape(*(about[key] for key in SHAPE))
        return shape, _digest_of_signs(shape, signs)


def _signs(stream: BinaryIO, start: int, tensor: dict[str, Any]) -> Any:
    """Whether each number of a tensor in a safetensors file is negative; its bytes begin at
    `start`.
    """
    import numpy as np

    first, end = tensor["data_offsets"]
    stream.seek(start + first)
    numbers = np.frombuffer(stream.read(end - first), np.uint8).reshape(-1, SIZES[tensor["dtype"]])
    return numbers[:, -1] >= 128


def _clip_shapes(about: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The weights of CLIP's text encoder by name, as transformers' CLIPTextModel has them."""
    vocabulary, width, layers = (about[key] for key in SHAPE)
    inner, positions = (about[key] for key in MORE)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.token_embedding.weight": (vocabulary, width),
        "embeddings.position_embedding.weight": (positions, width),
        "final_layer_norm.weight": (width,),
        "final_layer_norm.bias": (width,),
    }
    if "CLIPTextModelWithProjection" in (about.get("architectures") or ()):
        shapes["text_projection.weight"] = (about["projection_dim"], width)
    linear = {f"self_attn.{part}_proj": (width, width) for part in "qkv"} | {
        "self_attn.out_proj": (width, width)
    }
    linear |= {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
    for layer in range(layers):
        for name, shape in linear.items():
            shapes[f"encoder.layers.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layers.{layer}.{name}.bias"] = shape[:1]
        for name in ("layer_norm1", "layer_norm2"):
            shapes[f"encoder.layers.{layer}.{name}.weight"] = shapes[
                f"encoder.layers.{layer}.{name}.bias"
            ] = (width,)
    return shapes
