"""P+ (Voynov et al. 2023), extended textual inversion: pictures of a concept in, an embedding of
its word for every cross-attention layer out.

Each layer reads the prompt with its own embedding, so K and V are made once a prompt and layer. The
paper's code is not public; the loss is the one of the two re-implementations that are named below.
Left out: its list of texts (the nine of Appendix G stand here), and pictures whose layers mix two
concepts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a plan reads this file without torch
    import torch
    from torch import nn

    from perfusion_core.backbone import Backbone
    from perfusion_core.subject import Fitted, Subject
    from perfusion_core.training import Progress, Validation, Write

NAME, LABEL, VERSION = "xti", "P+ (XTI)", 1
FAMILY = "word"
SUMMARY = "an embedding of the word for every cross-attention layer"
FORMAT = "xti.safetensors; gen_img_diffusers.py --XTI_embeddings of kohya's sd-scripts"
KILOBYTES = 50  # on Stable Diffusion 1.5
CITE = """@article{voynov2023p,
  title = {{P+}: Extended Textual Conditioning in Text-to-Image Generation},
  author = {Voynov, Andrey and Chu, Qinghao and Cohen-Or, Daniel and Aberman, Kfir},
  journal = {arXiv preprint arXiv:2303.09522},
  year = {2023}
}"""
TRAINED, PRIOR = True, False
TEXT_SIDE = True
SETTINGS = ()
USES_COVARIANCE = False  # no byte of it depends on C
UNET_ONLY = True
ONE_ENCODER = True
UNTUNED = True
TUNED = ("lr",)
STYLE = {"colour": "#CC79A7", "marker": "s", "dash": (0, (2, 1)), "ink": "#a64f80"}
ONE_FILE = "xti.safetensors"  # under another name, that name is kohya's word for the concept
FILES = {"xti.safetensors": r"(IN|OUT)\d\d|MID"}


@dataclass(frozen=True)
class Config:
    """P+, Sec. 4.2.2: the settings of Textual Inversion with a tenth of its steps. The numbers are
    those of two re-implementations, mkshing/prompt-plus-pytorch and SeongMon/prompt-plus.
    """

    steps: int = 500  # --max_train_steps=500
    batch: int = 8  # --train_batch_size=8, or 1 with 8 micro-batches
    accumulate: int = 1  # micro-batches of batch / accumulate
    lr: float = 0.005  # --learning_rate=5e-3, not scaled by the batch
    weight_decay: float = 0.01  # --adam_weight_decay of diffusers' textual_inversion.py
    flip: bool = True  # flip_p 0.5; here never an asymmetric concept
    # Whether the U-Net's activations are computed again: less memory, a third more time.
    checkpointing: bool = False
    # Whether the loss is weighted by masks, as Perfusion's is.
    masks: bool = field(default=False, metadata={"later": True})


MINIATURE = Config(steps=100, lr=0.02)


def fit(
    backbone: Backbone,
    subject: Subject,
    config: Config,
    out: Path,
    *,
    seed: int,
    prior: Any = None,
    validate: Validation | None = None,
    keep: Iterable[int] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, and leave what kohya's sd-scripts open in `out`."""
    import torch

    from baselines.layered_word import LayeredWord, encode_text, of_layers, spoken
    from baselines.parts import own_pictures, refuse_two_encoders
    from perfusion_core.files import write_tensors
    from perfusion_core.prompts import TEMPLATES, encode, named
    from perfusion_core.student import repeated
    from perfusion_core.training import Batch, Recipe, equal_parts, train

    refuse_two_encoders(NAME, backbone)
    count = equal_parts(config.batch, config.accumulate)
    vectors = first_vectors(backbone, subject.super_category)
    words = {subject.name: LayeredWord(subject.super_category, vectors)}
    pictures = own_pictures(backbone, config, subject)

    def draw(rng: torch.Generator) -> Batch:
        which = torch.randint(len(TEMPLATES), (count,), generator=rng).tolist()
        latents, mask = pictures.draw(count, rng)
        return Batch(latents, [named(TEMPLATES[n], subject.name) for n in which], mask)

    def plain(texts: list[str]) -> torch.Tensor:
        return encode(backbone.text_encoder, backbone.tokenizer, texts, {})[0]

    def encode_texts(texts: list[str]) -> torch.Tensor:
        distinct = list(dict.fromkeys(texts))
        encodings = torch.cat([encode_text(backbone, text, words, plain) for text in distinct])
        return repeated(encodings, [distinct.index(text) for text in texts])

    @contextmanager
    def current() -> Iterator[Write]:
        with spoken(backbone, words):
            yield lambda template: named(template, subject.name)

    def save(folder: Path) -> None:
        rows = {layer: vector[None] for layer, vector in vectors.items()}  # [1, d]
        about = {"format": "pt", "super_category": subject.super_category}
        write_tensors(folder / ONE_FILE, rows, about)

    with of_layers(backbone):
        log = train(
            backbone,
            Recipe(
                config.steps,
                config.accumulate,
                weight_decay=config.weight_decay,
                checkpointing=config.checkpointing,
            ),
            [{"params": list(vectors.values()), "lr": config.lr}],
            draw,
            encode_texts,
            seed=seed,
            out=out,
            save=save,
            current=current,
            validate=validate,
            keep=keep,
            progress=progress,
        )
    return log | {"bytes": (out / ONE_FILE).stat().st_size}


def first_vectors(backbone: Backbone, word: str) -> dict[str, nn.Parameter]:
    """The embedding of a word that is one token, for each layer, to be learned further."""
    from baselines.layered_word import layer_names
    from baselines.textual_inversion import first_vector

    return {layer: first_vector(backbone, word) for layer in layer_names(backbone)}


@contextmanager
def apply(
    backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]
) -> Iterator[Write]:
    """`sample` resolves the {names}, so the text stays as it is."""
    from baselines.layered_word import LayeredWord, of_layers, spoken
    from baselines.parts import assert_only, refuse_points, refuse_two_encoders, spelled, stamps

    refuse_points(NAME, point)
    refuse_two_encoders(NAME, backbone)
    words = {
        name: LayeredWord(fitted.super_category, load(backbone, fitted.folder / ONE_FILE))
        for name, fitted in fits.items()
    }
    before = stamps(backbone)
    with of_layers(backbone), spoken(backbone, words):
        assert_only(before, backbone, lambda weight: False)
        for name, word in words.items():
            assert_every_layer_means_something_else(backbone, name, word.text)
        yield spelled({})


def load(backbone: Backbone, file: Path) -> dict[str, torch.Tensor]:
    """One embedding a layer, by the layer's name; any other file is a sentence."""
    from baselines.fitting import tensors_in
    from baselines.layered_word import layer_names
    from perfusion_core.errors import UserError, unknown

    tensors = tensors_in(file)
    layers, width = layer_names(backbone), backbone.text.width
    if not tensors.keys() & set(layers):
        held = ", ".join(sorted(tensors)[:3]) or "nothing"
        raise UserError(
            f"{file} is not a file of P+, which has embeddings named {layers[0]} to {layers[-1]} "
            f"and not {held:.200}; give one that xti trained"
        )
    for layer in sorted(tensors.keys() - set(layers)):
        raise unknown(f"layer of {backbone.name} in {file}", layer[:80], layers)
    for layer in layers:
        if layer not in tensors:
            raise UserError(
                f"{file} has no embedding for the layer {layer} of {backbone.name}; it was trained "
                f"on another model"
            )
        if tensors[layer].shape != (1, width):
            raise UserError(
                f"{file} has a {layer} of the shape {tuple(tensors[layer].shape)}, and one vector "
                f"of {width} numbers is wanted for {backbone.name}"
            )
    return {layer: tensors[layer][0].to(backbone.device) for layer in layers}


def assert_every_layer_means_something_else(backbone: Backbone, name: str, instead: str) -> None:
    """Each layer reads the {name} otherwise than the plain word."""
    import torch

    from baselines.layered_word import layer_names

    with torch.no_grad():
        mine, plain = (
            backbone.pipe.encode_prompt(text, backbone.device, 1, False)[0].unflatten(
                -1, (-1, backbone.text.width)
            )
            for text in (f"{{{name}}}", instead)
        )
    for number, layer in enumerate(layer_names(backbone)):
        assert not torch.equal(mine[:, :, number], plain[:, :, number]), (
            f"{{{name}}} means the same as {instead!r} in the layer {layer}"
        )
