"""What personalisation costs: sampling with concepts against the stock pipeline, a training step against LoRA and all.

In: a backbone (the miniature, or Stable Diffusion 1.5's true configuration with random weights). Out: a Markdown table.
Everything that is compared is timed in turn, `--repeats` times over, so that a busy moment hits all alike.

    python -m benchmarks.speed
    python -m benchmarks.speed --backbone sd15-random --steps 4 --batch 1 --train-batch 1
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perfusion_core import rank_one
from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.concept import Concept
from perfusion_core.digests import text_shape
from perfusion_core.editing import load_concepts
from perfusion_core.perfusion import Config, Student
from perfusion_core.prompts import TEMPLATES, named, super_encoding, super_token
from perfusion_core.sampling import noise, sample
from perfusion_core.subject import Subject
from perfusion_core.training import Batch, Latents, Recipe, train

WORDS = ("cat", "dog", "teapot")
PROMPTS = {0: "a photo of a cat", 1: "a photo of a {cat}", 3: "a photo of a {cat} and a {dog} in a {teapot}"}


# ---- what is timed ----


def random_sd15(device: str, dtype: torch.dtype) -> Backbone:
    """Stable Diffusion 1.5's sizes, all of them, with random weights: for times and bytes, not for pictures."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from perfusion_core.single_file import layouts, tokenizer_of

    layout = layouts()[768]
    tokenizer, scheduler = tokenizer_of(layout), DDIMScheduler.from_config(layout["scheduler"])
    torch.manual_seed(0)
    with torch.device(device):
        unet = in_dtype(dtype, lambda: UNet2DConditionModel.from_config(layout["unet"]))
        vae = in_dtype(dtype, lambda: AutoencoderKL.from_config(layout["vae"]))
        encoder = CLIPTextModel(CLIPTextConfig(**layout["text_encoder"]))
    parts = {"vae": vae, "text_encoder": encoder, "tokenizer": tokenizer, "unet": unet, "scheduler": scheduler}
    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe: Any = StableDiffusionPipeline(**parts, **none)
    pipe.set_progress_bar_config(disable=True)
    for model in (unet, vae, encoder):
        model.requires_grad_(False).eval().to(memory_format=torch.channels_last)
    backbone = Backbone("sd15-random", Path("sd15-random"), None, pipe, torch.device(device), dtype)
    backbone.__dict__["digest"] = "0" * 16
    backbone.__dict__["c_inv"] = torch.eye(768, dtype=torch.float64, device=device)
    return backbone


def in_dtype(dtype: torch.dtype, build: Callable[[], Any]) -> Any:
    """Made in `dtype` at once: 860 million numbers in float32 first would double the memory."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return build()
    finally:
        torch.set_default_dtype(usual)


def random_concept(backbone: Backbone, word: str, seed: int) -> Concept:
    """Of the right sizes, near to its word; training would take the same time to use."""
    rng = torch.Generator().manual_seed(seed)
    encoding = super_encoding(backbone.text_encoder, backbone.tokenizer, word).cpu()
    rows = backbone.text_encoder.get_input_embeddings().weight
    layers = cross_attentions(backbone.unet).values()
    return Concept(
        placeholder=word,
        super_category=word,
        i_star=encoding + 0.1 * torch.randn(encoding.shape, generator=rng),
        embedding=rows[super_token(backbone.tokenizer, word)].detach().cpu(),
        o_v=tuple(torch.randn(layer.to_v.out_features, generator=rng) for layer in layers),
        o_k=None,
        super_encoding=encoding,
        text_digest=backbone.text_digest,
        text_shape=text_shape(backbone.text_encoder),
        backbone=backbone.name,
    )


@contextmanager
def forgetful() -> Iterator[None]:
    """The edit without its memory: every projection is computed again at every step."""
    kept = rank_one.Last.get
    rank_one.Last.get = lambda self, encodings, compute: compute()  # type: ignore[method-assign]
    try:
        yield
    finally:
        rank_one.Last.get = kept  # type: ignore[method-assign]


def stock_pipeline(backbone: Backbone) -> Any:
    """As people have it: all of one dtype, the same U-Net and VAE, the protocol's scheduler."""
    import copy

    from diffusers import StableDiffusionPipeline

    parts = dict(backbone.pipe.components)
    parts |= {
        "text_encoder": copy.deepcopy(backbone.text_encoder).to(backbone.dtype),
        "scheduler": backbone.scheduler(),
    }
    pipe: Any = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sampling_jobs(backbone: Backbone, batch: int, steps: int) -> dict[str, Callable[[], Any]]:
    concepts = {word: random_concept(backbone, word, n) for n, word in enumerate(WORDS)}
    pipe, seeds = stock_pipeline(backbone), range(batch)
    call = {"num_images_per_prompt": batch, "num_inference_steps": steps, "guidance_scale": 6.0, "output_type": "np"}

    def load(into: Any, many: int) -> Any:
        return load_concepts(into, dict(list(concepts.items())[:many]), c_inv=backbone.c_inv)

    def ours(many: int) -> Any:
        with load(backbone.pipe, many):
            return sample(backbone, PROMPTS[many], seeds, steps=steps)

    def theirs(many: int) -> Any:
        latents = noise(backbone, seeds).to(backbone.device, backbone.dtype)
        with load(pipe, many):
            return pipe(PROMPTS[many], latents=latents, **call)

    def naive(many: int) -> Any:
        with forgetful():
            return theirs(many)

    return {
        "stock pipeline, no concept": lambda: theirs(0),
        "`sample`, no concept": lambda: ours(0),
        "`sample`, 1 concept": lambda: ours(1),
        "`sample`, 3 concepts": lambda: ours(3),
        "stock pipeline + `load_concepts`, 1 concept": lambda: theirs(1),
        "stock pipeline + `load_concepts`, 3 concepts": lambda: theirs(3),
        "the same, edit recomputed at every step, 1 concept": lambda: naive(1),
        "the same, edit recomputed at every step, 3 concepts": lambda: naive(3),
    }


TRAINED = ("perfusion", "lora rank 4", "full U-Net")


def train_job(backbone: Backbone, name: str, batch: int, steps: int, checkpointing: bool) -> Callable[[], Any]:
    """`steps` training steps of one method through the shared loop; sets up once, so that only steps are timed."""
    rng = torch.Generator().manual_seed(0)
    size = backbone.size
    images = torch.rand(4, 3, size, size, generator=rng) * 2 - 1
    pictures = Latents.of(backbone, images, torch.ones(4, 1, size, size))
    subject = Subject("cat", "cat", images)

    def draw(rng: torch.Generator) -> Batch:
        latents, mask = pictures.draw(batch, rng)
        texts = [named(TEMPLATES[n % len(TEMPLATES)], "cat") for n in range(batch)]
        return Batch(latents, texts, mask)

    def loop(groups: list[dict[str, Any]], encode: Callable[[list[str]], torch.Tensor], **more: Any) -> None:
        recipe = Recipe(steps, checkpointing=checkpointing)
        with tempfile.TemporaryDirectory() as out:
            train(backbone, recipe, groups, draw, encode, seed=0, out=Path(out), save=lambda folder: None, **more)

    if name == "perfusion":
        student = Student(backbone, subject, Config())

        def act() -> None:
            with student.attached():
                loop(student.groups(), student.encode, prepare=student.prepare)

        return act
    frozen = {t: backbone.encode([t.replace("{}", "cat")])[0] for t in TEMPLATES}
    by_text = {named(t, "cat"): e for t, e in frozen.items()}

    def cached(texts: list[str]) -> torch.Tensor:
        return torch.stack([by_text[text] for text in texts])

    if name == "full U-Net":
        import copy

        whole = copy.deepcopy(backbone.unet).float().requires_grad_(True)
        return lambda: loop([{"params": list(whole.parameters()), "lr": 1e-9}], cached, unet=whole)

    def lora() -> None:
        from peft import LoraConfig

        backbone.unet.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]), "speed")
        added = [p for p in backbone.unet.parameters() if p.requires_grad]
        for parameter in added:
            parameter.data = parameter.data.float()
        loop([{"params": added, "lr": 1e-9}], cached)
        backbone.unet.unload_lora() if hasattr(backbone.unet, "unload_lora") else backbone.unet.delete_adapters("speed")

    return lora


# ---- timing ----


def synchronised(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def interleaved(jobs: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device) -> dict[str, np.ndarray]:
    """Seconds [repeats] of each job, after one round that is thrown away."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(repeats + 1):
        names = list(jobs)
        for name in names[number % len(names) :] + names[: number % len(names)]:  # another one begins each round
            gc.collect()
            started = synchronised(device)
            jobs[name]()
            if number:
                seconds[name].append(synchronised(device) - started)
    return {name: np.array(values) for name, values in seconds.items()}


def ratio(times: np.ndarray, base: np.ndarray) -> tuple[float, float, float]:
    """Median of the rounds' ratios and its 95 % interval by bootstrap over rounds."""
    each = times / base
    draws = np.random.default_rng(0).choice(each, (2000, len(each)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(each)), float(low), float(high)


def peak_memory(args: argparse.Namespace, name: str, device: torch.device) -> float:
    """GiB of one method's training alone, in a process of its own: the device's, or the whole process's on the CPU."""
    call = [sys.executable, "-m", "benchmarks.speed", "--memory-of", name, "--backbone", args.backbone,
            "--device", str(device), "--dtype", args.dtype, "--train-batch", str(args.train_batch)]  # fmt: skip
    done = subprocess.run(call + ["--checkpointing"] * args.checkpointing, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def memory_of(backbone: Backbone, args: argparse.Namespace) -> float:
    job = train_job(backbone, args.memory_of, args.train_batch, 2, args.checkpointing)
    job()
    if backbone.device.type == "cuda":
        return torch.cuda.max_memory_allocated(backbone.device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


# ---- the table ----


def open_backbone(args: argparse.Namespace) -> Backbone:
    from benchmarks.models import backbone_names, device_name
    from perfusion_core.backbone import as_dtype, fast_dtype

    device = device_name(args.device)
    dtype = fast_dtype(torch.device(device)) if args.dtype == "auto" else as_dtype(args.dtype)
    if args.backbone == "sd15-random":
        return random_sd15(device, dtype)
    return Backbone.open(args.backbone, device=device, dtype=dtype, names=backbone_names())


def table(args: argparse.Namespace) -> str:
    backbone = open_backbone(args)
    device = backbone.device
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    lines = [
        f"`python -m benchmarks.speed {' '.join(sys.argv[1:])}`".replace(" `", "`"),
        "",
        f"{backbone.name}, {backbone.size}x{backbone.size}, {str(backbone.dtype).removeprefix('torch.')}, {where}, "
        f"torch {torch.__version__.split('+')[0]}; medians of {args.repeats} interleaved repeats.",
        "",
        f"| sampling: {args.batch} images, {args.steps} steps, guidance 6 | s | against stock | 95 % interval |",
        "|---|---|---|---|",
    ]
    times = interleaved(sampling_jobs(backbone, args.batch, args.steps), args.repeats, device)
    base = next(iter(times.values()))
    for name, values in times.items():
        middle, low, high = ratio(values, base)
        lines.append(f"| {name} | {np.median(values):.3f} | {middle:.3f} | {low:.3f}-{high:.3f} |")
    each = 3
    jobs = {n: train_job(backbone, n, args.train_batch, each, args.checkpointing) for n in TRAINED}
    times = interleaved(jobs, args.repeats, device)
    how = ", gradient checkpointing" if args.checkpointing else ""
    lines += [
        "",
        f"| training: batch {args.train_batch}{how} | s a step | steps a second | peak GiB |",
        "|---|---|---|---|",
    ]
    del jobs
    for name, values in times.items():
        step = float(np.median(values)) / each
        lines.append(f"| {name} | {step:.3f} | {1 / step:.2f} | {peak_memory(args, name, device):.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--backbone", default="miniature", help="a name, a folder, a hub id, or sd15-random")
    parser.add_argument("--batch", type=int, default=8, help="images at once; default 8")
    parser.add_argument("--steps", type=int, default=50, help="of DDIM; default 50")
    parser.add_argument("--train-batch", type=int, default=16, help="default 16")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in training")
    parser.add_argument("--repeats", type=int, default=7, help="default 7")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--memory-of", choices=TRAINED, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print(memory_of(open_backbone(args), args))
    else:
        print(table(args))


if __name__ == "__main__":
    main()
