#!/usr/bin/env bash
# The archives that HEAD adds to submissions/ beyond BASE, written to DIR as bytes. HEAD's files are never checked out.
# Anything else that it changes there is refused: a verdict beside an archive is a maintainer's to write, and an archive
# that is there already stays as it was.
set -euo pipefail
base=$1 head=$2 dir=$3
mkdir -p "$dir"
found=0
from=$(git merge-base "$base" "$head" 2>/dev/null || echo "$base")
while IFS= read -r -d '' status && IFS= read -r -d '' name; do
  case $name in submissions/*) ;; *) continue ;; esac
  file=${name#submissions/}
  if [[ $status != A || ! $file =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.perfbench\.tar\.xz$ ]]; then
    printf 'refused: under submissions/ a pull request adds NAME.perfbench.tar.xz and nothing else, not %q (%s)\n' "$name" "$status" >&2
    exit 1
  fi
  mode=$(git ls-tree "$head" -- "$name" | cut -d ' ' -f 1)
  if [ "$mode" != 100644 ]; then
    printf 'refused: %q is no plain file (mode %s)\n' "$name" "$mode" >&2
    exit 1
  fi
  git cat-file blob "$head:$name" > "$dir/$file"
  found=$((found + 1))
done < <(git diff --name-status --no-renames -z "$from" "$head" -- submissions)
[ "$found" -gt 0 ] || { echo "refused: the pull request adds no archive under submissions/" >&2; exit 1; }
echo "$found archives"
