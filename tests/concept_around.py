"""A pytest plugin for other people's tests: every Stable Diffusion pipeline draws with a concept.

Loaded by `test_their_tests.py` into a run of diffusers' own tests. The hub is not asked: its tiny
tokenizer is replaced by ours in the plain run, too.
"""

import os
from functools import wraps
from typing import Any

import diffusers  # the installed one: their conftest puts their sources before it

SUBJECTS = ("squirrel", "toy", "cat", "dog", "astronaut", "tiger")
PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionControlNetPipeline",
    "StableDiffusionControlNetImg2ImgPipeline",
)


def pytest_configure(config: Any) -> None:
    from conftest_of_ours import make_tokenizer
    from transformers import CLIPTokenizer

    CLIPTokenizer.from_pretrained = classmethod(lambda *_, **__: make_tokenizer(77))
    if os.environ.get("PERFBENCH_CONCEPT_AROUND"):
        for name in PIPELINES:
            around(getattr(diffusers, name))


def around(kind: Any) -> None:
    original = kind.__call__

    @wraps(original)
    def call(self: Any, *args: Any, **more: Any) -> Any:
        from perfusion_core import load_concepts

        ready = self.unet is not None and self.text_encoder is not None
        if not ready or args or more.get("prompt") is None:
            return original(self, *args, **more)
        import torch

        width = self.text_encoder.config.hidden_size
        with load_concepts(
            self, {"it": made_up(self)}, c_inv=torch.eye(width, dtype=torch.float64)
        ):
            return original(self, **more | {"prompt": spoken(more["prompt"])})

    kind.__call__ = call


def spoken(prompt: Any) -> Any:
    """The first subject that is found is the concept."""
    if isinstance(prompt, list):
        return [spoken(text) for text in prompt]
    for subject in SUBJECTS:
        if subject in prompt:
            return prompt.replace(subject, "{it}", 1)
    return f"{prompt} {{it}}"


def made_up(pipe: Any) -> Any:
    """A concept for any pipeline, near to a toy."""
    from types import SimpleNamespace

    from conftest_of_ours import make_concept

    from perfusion_core.weight_digests import text_digest

    backbone = SimpleNamespace(
        text_encoder=pipe.text_encoder,
        tokenizer=pipe.tokenizer,
        unet=pipe.unet,
        text_digest=text_digest(pipe.text_encoder),
        name="theirs",
        digest="",
    )
    concept = make_concept(backbone, "it", "toy")
    return concept
