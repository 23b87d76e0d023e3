"""Pictures of a run's concepts and prompts by diffusers' IP-Adapter, to be imported into the run.

    python docs/examples/ip_adapter.py results/mine out
    perfbench import out --as ip-adapter --out results/mine

The run has the method `super`: its prompts, its seeds and the concepts' first pictures are taken.
Nothing is trained. `--scale` says how much the picture counts beside the prompt.
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image

from benchmarks.store.reading import read_plan, read_run
from benchmarks.store.run_folder import cell_folder, concept_folder

MODEL, ADAPTER = "stable-diffusion-v1-5/stable-diffusion-v1-5", "h94/IP-Adapter"


def main(run: Path, out: Path, model: str = MODEL, adapter: str = ADAPTER, scale: float = 0.6):
    pipe = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.load_ip_adapter(
        adapter, subfolder="models", weight_name="ip-adapter_sd15.safetensors"
    )  # with its image encoder
    pipe.set_ip_adapter_scale(scale)
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")

    config, plan = read_run(run)["config"], read_plan(run)
    manner = {"num_inference_steps": config["steps"], "guidance_scale": config["guidance"]}
    for cell in plan[(plan["method"] == "super") & (plan["kind"] != "pair")].itertuples():
        place = (cell.concept, cell.prompt_id)
        drawn = cell_folder(run, "super", cell.point, *place) / "cell.json"
        prompt = cell.template.replace(f"{{{cell.concept}}}", cell.super_category)
        picture = Image.open(concept_folder(run, cell.concept) / "0.png")
        for index, seed in enumerate(json.loads(drawn.read_text())["seeds"]):
            file = out.joinpath(*place, f"{index}.png")
            if not file.exists():  # interrupted, the same command goes on
                file.parent.mkdir(parents=True, exist_ok=True)
                noise = torch.Generator().manual_seed(seed)
                made = pipe(prompt, ip_adapter_image=picture, generator=noise, **manner)
                made.images[0].save(file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=MODEL, help="Stable Diffusion: a hub id or a folder")
    parser.add_argument("--adapter", default=ADAPTER, help="the adapter: a hub id or a folder")
    parser.add_argument("--scale", type=float, default=0.6)
    main(**vars(parser.parse_args()))
