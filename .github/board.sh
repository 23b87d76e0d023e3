#!/usr/bin/env bash
# The board and the explorer of what is committed: runs of our own, and every archive under submissions/ (miniature-quickstart
# is there as one). Writes SITE/board and SITE/explorer; rows of the board link to their cells in the explorer. An archive
# that fails its check, or takes the name of another entry, stops it with a sentence: nothing is left out in silence.
#
#   bash .github/board.sh SITE
set -euo pipefail
shopt -s nullglob
site=$1
runs=(results/first-world/miniature-paper results/miniature-quick results/first-world/miniature-measures)
archives=(submissions/*.perfbench.tar.xz)
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
mkdir -p "$site"
# every archive is checked here, before anything of one is unpacked
python -m benchmarks.cli board "${runs[@]}" "${archives[@]}" --out "$site/board" --explorer ../explorer
for archive in "${archives[@]}"; do
  # the board calls an entry by its manifest, which a renamed file keeps
  name=$(tar -xJOf "$archive" manifest.json | python -c 'import json, sys; print(json.load(sys.stdin)["name"])')
  mkdir "$unpacked/$name"
  tar -xJf "$archive" -C "$unpacked/$name"
  runs+=("$unpacked/$name")
done
python -m benchmarks.cli view "${runs[@]}" --bundle "$site/explorer"
