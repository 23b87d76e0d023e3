"""The commands that made results/miniature-*, in their order. `python -m benchmarks.evidence commands` prints them.

Each may be interrupted and given again. All of them together take about a day on two cores.
"""

OUT = "results/miniature-"
LOCAL = "local-b0.60-t0.15,local-b0.65-t0.15,local-b0.70-t0.15,local-b0.75-t0.15"
GLOBAL = "global-b0.40-t0.15,global-b0.50-t0.15,global-b0.60-t0.15"
EACH = ("perfusion", "ti,ti-selected", "cd,cd-better,cd-selected", "db,db-selected", "lora,lora-selected")
UNUSUAL = (("pot", "clock"), ("pot", "shoe"), ("cat", "lamp"))
KEPT = (25, 50, 100, 150, 200, 250, 300, 400)


def _dynamics() -> str:
    points = ",".join(f"local-b0.60-t0.15-s{step}" for step in KEPT)
    sets = f"--set keep={','.join(map(str, KEPT))} --set points.perfusion={points} --set images=1"
    return (
        f"perfbench run --out {OUT}dynamics --methods perfusion,perfusion-trained-k "
        f"--concepts cat,teddy,teapot,chair {sets}"
    )


COMMANDS = {
    "paper": [
        f"perfbench run --out {OUT}paper --scorers auto,truth --methods {methods} "
        f"--set points.perfusion={LOCAL},{GLOBAL}"
        for methods in EACH
    ]
    + [
        f"perfbench attention {OUT}paper --methods ti,cd,db,perfusion,super",
        f"python -m benchmarks.evidence look {OUT}paper",
    ],
    "ablations": [
        f"perfbench run --out {OUT}ablations --set images=2 --set points.perfusion={LOCAL} "
        "--ablation one-shot,trained-k,no-mask,train-bias,infer-temperature,vanilla-rome"
    ],
    "dynamics": [_dynamics()],
    "pairs": [
        f"perfbench run --out {OUT}pairs --methods perfusion,cd,ti --concepts teddy,teapot,cat,chair,dog,sunglasses "
        "--prompts s01 --pairs teddy+teapot,cat+chair,dog+sunglasses,teddy+sunglasses "
        f"--trained perfusion={OUT}paper,cd={OUT}paper,ti={OUT}paper"
    ],
    "unusual": [
        f"perfbench concepts add concepts/{name} --super-category {word} --name {name}_as_{word} --dest unusual"
        for name, word in UNUSUAL
    ]
    + [
        f"perfbench run --out {OUT}unusual --methods perfusion --prompts shape --set images=4 "
        f"--set points.perfusion={LOCAL} --concepts {','.join(f'unusual/{name}_as_{word}' for name, word in UNUSUAL)}",
        f"python -m benchmarks.evidence look {OUT}unusual",
    ],
    "transfer": [
        "perfbench miniature restyle watercolor --out watercolor-miniature",
        f"perfbench run --out {OUT}transfer --backbone watercolor-miniature --methods perfusion --set images=2 "
        f"--set points.perfusion={LOCAL} --trained perfusion={OUT}paper",
    ],
}
