"""Pictures by any other program become a method of a run, beside those that are there.

    python docs/examples/import_pictures.py PICTURES results/mine theirs

PICTURES holds CONCEPT/PROMPT_ID/INDEX.png, or any other layout that docs/import.md names.
"""

import sys

from benchmarks.api import UserError, compare, import_pictures, open_run


def main(pictures: str, run: str, name: str) -> None:
    try:
        done = import_pictures(pictures, name, run)
    except UserError as error:  # what is missing, double, cut short or of an unknown prompt
        sys.exit(f"nothing was imported: {error}")
    print(f"{done.pictures} of {done.planned} pictures, {len(done.left_out)} left out")

    table = open_run(run).table
    columns = ["method", "point", "image_sim", "image_sim_lo", "image_sim_hi", "text_sim"]
    print(table.loc[table["kind"] == "method", columns].to_string(index=False))

    # The same prompts and concepts by another method of the run, paired.
    other = next(one for one in table["method"] if one not in (name, "super", "real"))
    samples = open_run(run).samples
    ours, theirs = (samples[samples["method"] == one] for one in (name, other))
    found = compare(ours, theirs, score="text_sim_raw")
    low, high = found.difference.lo, found.difference.hi
    print(f"{name} less {other}: {found.difference.value:+.3f} [{low:.3f}, {high:.3f}], "
          f"{found.verdict}")  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:4])
