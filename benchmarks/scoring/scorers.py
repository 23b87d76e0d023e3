"""The models behind the scores. In: pictures and texts. Out: unit vectors, float32; a cosine is
their dot product.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from benchmarks.scoring.clip_folder import is_plain, open_clip_folder
from benchmarks.scoring.lookup import Scorer
from perfusion_core.errors import UserError

if TYPE_CHECKING:
    from benchmarks.scoring.truth import Truth


class Clip:
    """An open_clip model: pictures and texts in one space. A plain folder is read without that
    library.
    """

    def __init__(self, scorer: Scorer, device: str) -> None:
        local = Path(scorer.source).is_dir()
        opened = open_clip_folder(Path(scorer.source)) if local else None
        model: Any
        if opened:
            model, prepare, tokenize = opened.model.to(device), opened.prepare, opened.tokenize
        else:
            model, prepare, tokenize = self._by_open_clip(scorer, device, local)
        self.model: Any = model.eval().requires_grad_(False)
        self.prepare: Any = prepare
        self.tokenize: Any = tokenize
        self.device = device
        self._texts: dict[str, np.ndarray] = {}

    @staticmethod
    def _by_open_clip(scorer: Scorer, device: str, local: bool) -> tuple[Any, Any, Any]:
        import open_clip

        model, _, tag = (
            (f"local-dir:{scorer.source}", "", None) if local else scorer.source.partition(":")
        )
        try:
            # another activation than the weights': the scores would be another model's
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=".*GELU")
                network, _, prepare = open_clip.create_model_and_transforms(
                    model, pretrained=tag, device=device, precision="fp32"
                )
        except (RuntimeError, ValueError, OSError, UserWarning) as error:
            raise UserError(
                f"the scorer {scorer.name} cannot be opened: {str(error).strip().splitlines()[0]}"
            ) from error
        return network, prepare, open_clip.get_tokenizer(model)

    @torch.inference_mode()
    def images(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """[n, d]"""
        batch = torch.stack([self.prepare(picture) for picture in pictures]).to(self.device)
        return _unit(self.model.encode_image(batch))

    @torch.inference_mode()
    def text(self, text: str) -> np.ndarray:
        """[d]; each text once a process."""
        if text not in self._texts:
            self._texts[text] = _unit(
                self.model.encode_text(self.tokenize([text]).to(self.device))
            )[0]
        return self._texts[text]


class Timm:
    """A vision transformer of timm's, such as DINO: pictures only, by what its own head would read,
    which is the class token after the last norm of most; of `timm-cls`, by the class token always.
    """

    text = None

    def __init__(self, scorer: Scorer, device: str) -> None:
        import timm

        try:
            token: dict[str, Any] = {"global_pool": "token"} if scorer.kind == "timm-cls" else {}
            made = timm.create_model(
                f"local-dir:{scorer.source}", pretrained=True, num_classes=0, **token
            )
        except (RuntimeError, ValueError, OSError, AssertionError, TypeError) as error:
            raise UserError(
                f"the scorer {scorer.name} cannot be opened: {str(error).strip().splitlines()[0]}"
            ) from error
        self.model = made.to(device).float().eval().requires_grad_(False)
        self.prepare: Any = timm.data.create_transform(
            **timm.data.resolve_model_data_config(made), is_training=False
        )
        self.device = device

    @torch.inference_mode()
    def images(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """[n, d]"""
        batch = torch.stack([self.prepare(picture) for picture in pictures]).to(self.device)
        return _unit(self.model(batch))


class Dino:
    """The same in transformers' format: the class token of the last layer."""

    text = None

    def __init__(self, scorer: Scorer, device: str) -> None:
        from transformers import AutoImageProcessor, AutoModel

        try:
            self.model: Any = (
                AutoModel.from_pretrained(
                    scorer.source, use_safetensors=True, trust_remote_code=False
                )
                .to(device)
                .float()
                .eval()
            )
            self.prepare: Any = AutoImageProcessor.from_pretrained(
                scorer.source, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"the scorer {scorer.name} cannot be opened: {str(error).strip().splitlines()[0]}"
            ) from error
        self.device = device

    @torch.inference_mode()
    def images(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """[n, d]"""
        batch = self.prepare(images=list(pictures), return_tensors="pt")["pixel_values"].to(
            self.device
        )
        return _unit(self.model(pixel_values=batch).last_hidden_state[:, 0])


Model: TypeAlias = "Clip | Timm | Dino | Truth"


def needs_open_clip(scorer: Scorer) -> bool:
    """Whether its process will import that library."""
    folder = Path(scorer.source)
    return scorer.kind == "clip" and not (folder.is_dir() and is_plain(folder))


def open_scorer(scorer: Scorer, device: str) -> Model:
    if scorer.kind == "truth":
        from benchmarks.scoring.truth import Truth

        return Truth(Path(scorer.source), device)
    if scorer.kind == "clip":
        return Clip(scorer, device)
    return Timm(scorer, device) if scorer.kind.startswith("timm") else Dino(scorer, device)


def of_concept(model: Model, pictures: Sequence[Image.Image]) -> np.ndarray:
    """[n, d]: the pictures that generated ones are compared with."""
    return getattr(model, "concept", model.images)(pictures)


def _unit(features: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
