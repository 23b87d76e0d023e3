#!/usr/bin/env bash
# A concept for ComfyUI, A1111 and Forge: an embedding and a LoRA, and what was lost by it.
#
#   docs/examples/export_to_lora.sh results/miniature-concepts/cat.safetensors out
#   docs/examples/export_to_lora.sh teddy.safetensors out --backbone sd15
set -eu
concept=$1 out=$2
shift 2

# The gate is fixed at one bias and temperature; R^2 says how much of it a LoRA can tell.
perfbench export "$concept" --out "$out" --bias 0.6 --temperature 0.15 --bundle "$@"

# Where they go: models/embeddings and models/loras of ComfyUI, embeddings and models/Lora of A1111.
ls "$out"

# What a LoRA says of itself, as any program reads it.
python - "$out" <<'PYTHON'
import sys
from pathlib import Path

from safetensors import safe_open

for path in sorted(Path(sys.argv[1]).glob("*_lora.safetensors")):
    with safe_open(path, "pt") as file:
        told = {k: v for k, v in (file.metadata() or {}).items() if k.startswith("perfbench.")}
        print(path.name, len(file.keys()), "tensors")
    print(*(f"  {key}: {value:.70}" for key, value in told.items()), sep="\n")
PYTHON
