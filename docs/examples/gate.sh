#!/usr/bin/env bash
# The gate of a pull request: exit status 1 where the change lost quality, 2 where nothing can be said.
#
#   docs/examples/gate.sh REFERENCE CHANGE [words of `perfbench run`]
#   docs/examples/gate.sh results/reference results/change --methods perfusion,cd --preset quick
#
# On the main branch, once, it makes REFERENCE and a repeat of it, and writes margins: how far the two
# differ by chance. Repeats on one machine are the same bytes, which gives the least margins; five or
# more from other machines make better ones (docs/statistics.md). On a change, CHANGE is made by the
# same words and compared by concept and prompt. On GitHub the steps are those of
# .github/workflows/gate-example.yml, which also comments on the pull request.
set -eu
reference=$1 change=$2
shift 2

if [ ! -f "$reference/check.toml" ]; then
  perfbench run --no-cache --out "$reference" "$@"
  perfbench run --no-cache --out "$reference-repeat" "$@"
  perfbench check --calibrate "$reference" "$reference-repeat"
fi
perfbench run --no-cache --out "$change" "$@"

status=0
perfbench check "$change" --against "$reference" --format markdown > "$change/check.md" || status=$?
cat "$change/check.md"
exit $status
