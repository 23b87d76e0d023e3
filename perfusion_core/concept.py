"""The concept file: what Perfusion learned, in safetensors with a readable header; nothing is ever
unpickled.

i_star, the word's embedding and o_star_V of every layer; o_star_K and C belong to the backbone and
are not in it.

Format 2 names the cross-attentions that o_star_V belongs to. Format 1 does not: they are those of a
U-Net in diffusers' order, which `unet_order` tells. Format 3 is of several text encoders, as Stable
Diffusion XL has them: `text_shape` tells each one's width, `embedding` holds a vector for each, one
after the other, and `pooled` tells whose text was pooled in training. Format 4 is of a text encoder
behind a projection, as PixArt and Sana have it: `text_shape` tells the width behind it, which
i_star has, and `embedding` has the text encoder's.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from perfusion_core.errors import NotAConcept, UserError
from perfusion_core.files import write_tensors
from perfusion_core.perfusion_settings import GATES, POOLED
from perfusion_core.weight_digests import encoding_width, is_behind, widths_in

FORMAT = "perfusion-concept"
VERSION = 4
ALIKE = 0.8  # cosine of super-category encodings below which another text encoder is refused
SIDES = ("down", "up", "mid")  # of a U-Net, as diffusers registers them


@dataclass(frozen=True)
class Concept:
    placeholder: str
    super_category: str
    i_star: torch.Tensor  # [d]
    # [d] of the text encoder's table; of several of them, each one's part after the other's
    embedding: torch.Tensor
    o_v: tuple[torch.Tensor, ...]  # [d_out] of each cross-attention, in the U-Net's order
    o_k: tuple[torch.Tensor, ...] | None  # only where K was trained
    # [d]; only its direction is kept, for recognising other checkpoints
    super_encoding: torch.Tensor
    text_digest: str
    text_shape: str
    backbone: str  # name and digest, for people
    gate: str = "sigmoid"  # of GATES
    train_bias: float = 0.75
    train_temperature: float = 0.1
    steps: int = 0
    names: tuple[str, ...] = ()  # of the cross-attentions of o_v; () where a file does not tell
    pooled: str = "super"  # of POOLED: whose prompt a U-Net with pooled text was trained with

    @property
    def widths(self) -> list[int]:
        """Of each text encoder that the embedding has a part for."""
        return widths_in(self.text_shape)

    def save(self, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
        tensors = {"i_star": self.i_star, "embedding": self.embedding, "o_v": torch.cat(self.o_v)}
        if self.o_k is not None:
            tensors["o_k"] = torch.cat(self.o_k)
        low = {name: tensor.detach().to(dtype) for name, tensor in tensors.items()}
        assert all(tensor.isfinite().all() for tensor in low.values()), "a concept has to be finite"
        low["super_encoding"] = direction(self.super_encoding)
        write_tensors(Path(path), low, self.header())

    def header(self) -> dict[str, str]:
        told = {"layer_names": " ".join(map(shortened, self.names))} if self.names else {}
        version = 2 if self.names else 1  # what was format 1 or 2 keeps its bytes
        if "+" in self.text_shape:
            assert self.names, "a concept of several text encoders names its layers"
            version, told = 3, {**told, "pooled": self.pooled}
        if is_behind(self.text_shape):
            assert self.names, "a concept behind a projection names its layers"
            version = 4
        return {
            "format": FORMAT,
            "version": str(version),
            "placeholder": self.placeholder,
            "super_category": self.super_category,
            "backbone": self.backbone,
            "text_digest": self.text_digest,
            "text_shape": self.text_shape,
            "layers": " ".join(str(len(o)) for o in self.o_v),
            "gate": self.gate,
            "train_bias": str(self.train_bias),
            "train_temperature": str(self.train_temperature),
            "steps": str(self.steps),
            **told,
        }

    def arranged(self, layers: Iterable[str]) -> "Concept":
        """The same for these layers, where they are the same ones in another order."""
        order = list(layers)
        if order == list(self.names) or sorted(order) != sorted(self.names):
            return self
        at = [self.names.index(name) for name in order]
        o_k = tuple(self.o_k[n] for n in at) if self.o_k is not None else None
        return replace(self, o_v=tuple(self.o_v[n] for n in at), o_k=o_k, names=tuple(order))

    @staticmethod
    def load(path: str | Path) -> "Concept":
        if not Path(path).is_file():
            raise UserError(f"there is no concept file {path}")
        try:
            with safe_open(path, "pt") as file:
                header = check_header(file.metadata() or {}, path)
                stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            sizes = [int(size) for size in header["layers"].split()]
            check_tensors(stored, header["text_shape"], sum(sizes))
            tensors = {name: tensor.float() for name, tensor in stored.items()}
            return Concept(
                placeholder=header["placeholder"],
                super_category=header["super_category"],
                i_star=tensors["i_star"],
                embedding=tensors["embedding"],
                o_v=tensors["o_v"].split(sizes),
                o_k=tensors["o_k"].split(sizes) if "o_k" in tensors else None,
                super_encoding=undone(tensors["super_encoding"]),
                text_digest=header["text_digest"],
                text_shape=header["text_shape"],
                backbone=header["backbone"],
                gate=header["gate"],
                train_bias=float(header["train_bias"]),
                train_temperature=float(header["train_temperature"]),
                steps=int(header["steps"]),
                names=layer_names(header, len(sizes)),
                pooled=header.get("pooled", "super"),
            )
        except UserError:  # a ValueError as well, and a sentence already
            raise
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is not a concept file, or it is truncated: {error}") from error
        except KeyError as error:
            raise UserError(f"{path} is damaged: {error} is missing") from error
        except (ValueError, IndexError) as error:
            raise UserError(f"{path} is damaged: {error}") from error


def check_tensors(tensors: dict[str, torch.Tensor], shape: str, outputs: int) -> None:
    """Real, finite numbers of the sizes that the header tells; anything else would end in black
    pictures. shape: of the text encoders.
    """
    width, word = encoding_width(shape), sum(widths_in(shape))
    sizes = {"i_star": width, "embedding": word, "super_encoding": width, "o_v": outputs}
    for name, size in sizes.items() if "o_k" not in tensors else [*sizes.items(), ("o_k", outputs)]:
        tensor = tensors[name]
        if tensor.shape != (size,):
            raise ValueError(f"{name} has the shape {list(tensor.shape)}, the header says [{size}]")
        if (
            not (tensor.is_floating_point() or name == "super_encoding")
            or not tensor.isfinite().all()
        ):
            raise ValueError(f"{name} holds something else than finite real numbers")
    if not tensors["i_star"].any():
        raise ValueError("i_star is zero, and what the gate compares with has a direction")


def check_header(header: dict[str, str], path: str | Path) -> dict[str, str]:
    if header.get("format") != FORMAT:
        raise NotAConcept(f"{path} is a safetensors file but not a concept")
    if int(header["version"]) > VERSION:
        raise UserError(
            f"{path} was written by a newer version (format {header['version']}, this one reads "
            f"up to {VERSION}); update to that version"
        )
    if header["gate"] not in GATES:
        raise UserError(
            f"{path} is damaged: its gate is {header['gate']!r}, not one of {', '.join(GATES)}"
        )
    if header.get("pooled", "super") not in POOLED:
        raise UserError(
            f"{path} is damaged: its pooled text is {header['pooled'][:60]!r}, not one of "
            f"{', '.join(POOLED)}"
        )
    for key in ("placeholder", "super_category"):
        if not is_word(header[key]):
            raise UserError(
                f"{path} is refused: its {key} {header[key][:60]!r} is not a plain word"
            )
    return header


# The names of cross-attentions


def layer_names(header: dict[str, str], count: int) -> tuple[str, ...]:
    """As diffusers has them; () from a file of format 1."""
    if int(header["version"]) < 2:
        return ()
    names = tuple(map(lengthened, header["layer_names"].split()))
    if len(set(names)) != count or len(names) != count:
        raise ValueError(f"layer_names has {len(set(names))} names for {count} layers")
    return names


def shortened(name: str) -> str:
    """`down_blocks.0.attentions.1.transformer_blocks.0.attn2` as `down.0.1.0`: sixteen whole ones
    would be a kilobyte. Any other name stays as it is.
    """
    found = re.fullmatch(
        r"(?:(down|up)_blocks\.(\d+)|(mid)_block)\.attentions\.(\d+)\.transformer_blocks\.(\d+)\.attn2",
        name,
    )
    return ".".join(part for part in found.groups() if part) if found else name


def lengthened(short: str) -> str:
    found = re.fullmatch(r"(?:(down|up)\.(\d+)|mid)\.(\d+)\.(\d+)", short)
    if not found:
        return short
    side, level, number, block = found.groups()
    start = f"{side}_blocks.{level}" if side else "mid_block"
    return f"{start}.attentions.{number}.transformer_blocks.{block}.attn2"


def unet_order(name: str) -> tuple[int, list[int]]:
    """The key by which names sort as diffusers' U-Net has its layers: down, up, and mid last."""
    return SIDES.index(name.partition("_")[0]), [int(n) for n in re.findall(r"\.(\d+)(?=\.)", name)]


def is_word(text: str) -> bool:
    """Whether a text can stand in a prompt and be a name: others write these files, and callers
    name files by them.
    """
    fine = text.isprintable() and 0 < len(text) <= 100 and not set(text) & set('{}<>/\\:*?"|')
    return fine and text[0] not in " .-" and text[-1] not in " ."


def direction(encoding: torch.Tensor) -> torch.Tensor:
    """Eight bits a number: only a cosine is ever asked of it. Square roots, because CLIP has a few
    huge outputs.
    """
    root = encoding.detach().float().cpu().abs().sqrt() * encoding.detach().float().cpu().sign()
    return (root / root.abs().max() * 127).round().to(torch.int8)


def undone(stored: torch.Tensor) -> torch.Tensor:
    """An encoding of the stored direction, of some length."""
    return stored.float() * stored.float().abs()
