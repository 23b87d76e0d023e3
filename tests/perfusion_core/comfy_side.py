"""ComfyUI's half of test_comfyui.py, in a process of its own: its folder and one with models in,
its predictions out.

Nodes are loaded by ComfyUI's own loader and called as its graph calls them; noise goes through its
own sampler, which puts prompt and negative prompt into one batch.
"""

import asyncio
import json
import sys
from pathlib import Path

COMFYUI, WORK = sys.argv[1], Path(sys.argv[2])
sys.path.insert(0, COMFYUI)
EXACT = ["--cpu", "--force-fp32", "--fp32-text-enc"]  # by itself it rounds the text encoder
sys.argv = ["main.py", *EXACT, "--base-directory", str(WORK)]
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import nodes  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

ALL = nodes.NODE_CLASS_MAPPINGS


def call(name, /, **inputs):
    node = ALL[name]()
    return getattr(node, ALL[name].FUNCTION)(**inputs)


def with_nodes(model, clip, chain):
    """Loaders one after the other: concepts and LoRAs."""
    for one in chain:
        if "lora_name" in one:
            model, clip = call("LoraLoader", model=model, clip=clip, strength_clip=0.0, **one)
        else:
            numbers = {"bias": 0.6, "temperature": 0.15, "lock": "local"} | one
            model, clip = call("PerfusionLoadConcept", model=model, clip=clip, **numbers)
    return model, clip


def predicted(model, positive, negative, noise, cfg):
    """What the U-Net says of the noise at timestep 500, with guidance, by ComfyUI's sampler."""
    seen = {}

    def one_step(network, x, sigmas, **_):
        denoised = network(x, sigmas[0] * x.new_ones(len(x)), **_["extra_args"])
        seen["eps"] = (x - denoised) / sigmas[0]
        seen["x"] = x / (sigmas[0] ** 2 + 1) ** 0.5
        return denoised

    sigma = float(model.get_model_object("model_sampling").sigma(torch.tensor(500.0)))
    comfy.sample.sample_custom(
        model,
        noise,
        cfg,
        comfy.samplers.KSAMPLER(one_step),
        torch.tensor([sigma, 0.0]),
        positive,
        negative,
        torch.zeros_like(noise),
    )
    return {name: value.float().clone() for name, value in seen.items()}


def main():
    told = json.loads((WORK / "cases.json").read_text())
    assert asyncio.run(nodes.load_custom_node(str(WORK / "custom_nodes" / "perfusion")))
    noise = load_file(WORK / "noise.safetensors")["noise"]
    model, clip, *_ = comfy.sd.load_checkpoint_guess_config(
        str(WORK / "models" / "checkpoints" / "sd.safetensors"), output_vae=False, output_clip=True
    )

    def draw(case):
        here = with_nodes(model, clip, case.get("nodes", []))
        node = case.get("encoder", "PerfusionPrompt")
        texts = [call(node, clip=here[1], text=case[side])[0] for side in ("prompt", "negative")]
        return predicted(here[0], *texts, noise, case["cfg"])

    results = {}
    for name, case in told["cases"].items():
        results |= {f"{name}.{part}": value for part, value in draw(case).items()}
    sentences = {}
    for name, case in told["refused"].items():
        try:
            if case.get("skip"):  # as CLIP Set Last Layer after the concept
                _, skipped = with_nodes(model, clip, case["nodes"])
                (skipped,) = call("CLIPSetLastLayer", clip=skipped, stop_at_clip_layer=case["skip"])
                call("CLIPTextEncode", clip=skipped, text=case["prompt"])
            elif case.get("crossed"):  # MODEL and CLIP from two nodes
                first = with_nodes(model, clip, case["nodes"])
                with_nodes(model, first[1], case["nodes"])
            else:
                draw({"negative": "", "cfg": 1.0} | case)
            sentences[name] = "nothing was said"
        except Exception as error:
            sentences[name] = f"{type(error).__name__}: {error}"
    inputs = ALL["PerfusionLoadConcept"].INPUT_TYPES()["required"]
    heavy = [name for name in ("diffusers", "peft", "open_clip") if name in sys.modules]
    about = {"files": inputs["concept"][0], "heavy": heavy, "said": sentences}
    save_file(results, WORK / "results.safetensors")
    (WORK / "about.json").write_text(json.dumps(about))


main()
