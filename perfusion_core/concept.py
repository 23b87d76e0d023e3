"""The concept file: what Perfusion learned, in safetensors with a readable header; nothing is ever
unpickled.

i_star, the word's embedding and o_star_V of every layer; o_star_K and C belong to the backbone and
are not in it.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from perfusion_core.errors import NotAConcept, UserError
from perfusion_core.files import write_tensors

FORMAT = "perfusion-concept"
VERSION = 1
GATES = ("sigmoid", "linear")  # linear: vanilla ROME


@dataclass(frozen=True)
class Concept:
    placeholder: str
    super_category: str
    i_star: torch.Tensor  # [d]
    embedding: torch.Tensor  # [d]
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

    def save(self, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
        tensors = {"i_star": self.i_star, "embedding": self.embedding, "o_v": torch.cat(self.o_v)}
        if self.o_k is not None:
            tensors["o_k"] = torch.cat(self.o_k)
        low = {name: tensor.detach().to(dtype) for name, tensor in tensors.items()}
        assert all(tensor.isfinite().all() for tensor in low.values()), "a concept has to be finite"
        low["super_encoding"] = direction(self.super_encoding)
        write_tensors(Path(path), low, self.header())

    def header(self) -> dict[str, str]:
        return {
            "format": FORMAT,
            "version": str(VERSION),
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
        }

    @staticmethod
    def load(path: str | Path) -> "Concept":
        if not Path(path).is_file():
            raise UserError(f"there is no concept file {path}")
        try:
            with safe_open(path, "pt") as file:
                header = check_header(file.metadata() or {}, path)
                stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            sizes = [int(size) for size in header["layers"].split()]
            check_tensors(stored, int(header["text_shape"].split("x")[1]), sum(sizes))
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
            )
        except UserError:  # a ValueError as well, and a sentence already
            raise
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is not a concept file, or it is truncated: {error}") from error
        except KeyError as error:
            raise UserError(f"{path} is damaged: {error} is missing") from error
        except (ValueError, IndexError) as error:
            raise UserError(f"{path} is damaged: {error}") from error


def check_tensors(tensors: dict[str, torch.Tensor], width: int, outputs: int) -> None:
    """Real, finite numbers of the sizes that the header tells; anything else would end in black
    pictures.
    """
    sizes = {"i_star": width, "embedding": width, "super_encoding": width, "o_v": outputs}
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
            f"up to {VERSION})"
        )
    if header["gate"] not in GATES:
        raise UserError(
            f"{path} is damaged: its gate is {header['gate']!r}, not one of {', '.join(GATES)}"
        )
    for key in ("placeholder", "super_category"):
        if not is_word(header[key]):
            raise UserError(
                f"{path} is refused: its {key} {header[key][:60]!r} is not a plain word"
            )
    return header


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
