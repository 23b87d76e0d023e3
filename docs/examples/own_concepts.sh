#!/usr/bin/env bash
# Concepts of your own: photographs of one thing in, a run about it out.
#
#   docs/examples/own_concepts.sh PHOTOS WORD OUT [words of `perfbench run`]
#   docs/examples/own_concepts.sh my_photos teapot results/mine --backbone sd15
#
# PHOTOS holds 4 to 8 photographs of one thing, WORD is the ordinary word for its kind.
set -eu
photos=$1 word=$2 out=$3
shift 3

# A copy in a folder of your own, checked: size, doubles, upright. One is kept from every method.
perfbench concepts add "$photos" --super-category "$word" --name my_thing \
  --dest "$out-concepts" --heldout 1 --licence "mine"
perfbench catalog check --suite "$out-concepts"

# What it would do, then the thing itself; interrupted, the same command goes on.
perfbench plan --suite "$out-concepts" --concepts my_thing --methods perfusion,super --masks none "$@"
perfbench run --suite "$out-concepts" --concepts my_thing --methods perfusion,super --masks none \
  --out "$out" "$@"

# Likeness to the picture that no method saw tells learning from copying.
perfbench table "$out" --by measures
