"""Who sees what, in which order: tasks -> sessions of trials. Pure; the seed decides everything.

In: how many tasks (a concept with a prompt) and qualification trials there are. Out: sessions, each
a list of trials.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from random import Random

QUALIFY, RATE, REPEAT = "qualify", "rate", "repeat"


@dataclass(frozen=True)
class Design:
    """The size of a study. Where the paper names a number it is the default: 8 responses, 5
    qualification trials.
    """

    responses: int = 8  # raters who see one task
    session: int = 33  # tasks a rater sees in a sitting, about: blocks are made equally long
    qualify: int = 5  # qualification trials at the start of a session; 0 for none
    pass_mark: int = 5  # how many of them must be right (the paper: all)
    # tasks that come a second time in a session, to see whether a rater agrees with himself
    repeats: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Trial:
    """One screen. `task` counts in the tasks, or in the qualification pool where `role` is
    QUALIFY.
    """

    role: str
    task: int
    order: tuple[int, ...]  # order[place] = which of the task's choices is shown there
    # of a REPEAT: the position in the session of the trial that it repeats
    first: int | None = None


def blocks(concepts: Sequence[str], size: int, random: Random) -> list[list[int]]:
    """Tasks in equal blocks of about `size`, each concept spread evenly over them."""
    by_concept = defaultdict(list)
    for task, concept in enumerate(concepts):
        by_concept[concept].append(task)
    dealt: list[int] = []
    for concept in sorted(by_concept):
        random.shuffle(by_concept[concept])
        dealt += by_concept[concept]
    n = max(1, round(len(dealt) / size))
    return [dealt[first::n] for first in range(n)]


def orders(n: int, responses: int, random: Random) -> list[tuple[int, ...]]:
    """One order of `n` choices a response, random, and as balanced as the number of responses
    allows.
    """
    every = list(permutations(range(n)))
    taken: list[tuple[int, ...]] = []
    while len(taken) < responses:
        random.shuffle(every)
        taken += every
    taken = taken[:responses]
    random.shuffle(taken)
    return taken


def make_session(
    block: Sequence[int],
    order: dict[int, tuple[int, ...]],
    pool: Sequence[int],
    design: Design,
    random: Random,
) -> list[Trial]:
    """Qualification first, then the block's tasks in random order, some of them a second time, the
    other way round.

    `pool[k]` is how many choices qualification trial k has. A repeat comes well after the first
    time and in reversed order: who always gives the same places the same ranks contradicts himself
    in every pair.
    """
    trials = []
    for task in random.sample(range(len(pool)), design.qualify):
        trials.append(Trial(QUALIFY, task, tuple(random.sample(range(pool[task]), pool[task]))))
    tasks = random.sample(list(block), len(block))
    trials += [Trial(RATE, task, order[task]) for task in tasks]
    early = range(design.qualify, design.qualify + max(1, len(tasks) // 2))
    again = random.sample(early, min(design.repeats, len(early)))
    for at in again:
        where = random.randint(design.qualify + max(1, len(tasks) * 3 // 4), len(trials))
        trials.insert(where, Trial(REPEAT, trials[at].task, trials[at].order[::-1], first=at))
    return trials


def sessions(
    concepts: Sequence[str], choices: int, pool: Sequence[int], design: Design
) -> list[tuple[int, list[Trial]]]:
    """(block, trials) of every session. Blocks hold the same tasks in every round of responses, so
    that a rater who takes several sessions meets no task twice as long as their blocks differ."""
    random = Random(f"study {design.seed}")
    parts = blocks(concepts, design.session, random)
    order = [orders(choices, design.responses, random) for _ in concepts]
    made = []
    for round_ in range(design.responses):
        for number, block in enumerate(parts):
            shown = {task: order[task][round_] for task in block}
            made.append((number, make_session(block, shown, pool, design, random)))
    return made
