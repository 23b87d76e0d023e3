"""The Python blocks of one page, in one interpreter: later blocks know the names of earlier ones.

In: a JSON line a block on stdin, {"kind", "text", "place"}. Out: after each a JSON line on the
stream that the caller named, {"failed"}; what blocks print goes to stdout as always.
"""

import ast
import doctest
import json
import os
import sys
import traceback
from typing import Any


def run_block(kind: str, text: str, place: str, names: dict[str, Any]) -> bool:
    """True where it went through. A bare last expression is printed, as a notebook shows it."""
    try:
        if kind == "doctest":
            test = doctest.DocTestParser().get_doctest(text, names, place, place, 0)
            failed = doctest.DocTestRunner(verbose=False).run(test, clear_globs=False).failed
            names.update(test.globs)
            return not failed
        tree = ast.parse(text, place)
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr):
            tree.body.pop()
        exec(compile(tree, place, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), place, "eval"), names)
            if value is not None:
                print(value)
        return True
    except BaseException:
        traceback.print_exc()
        return False


def main() -> None:
    answers = os.fdopen(int(sys.argv[1]), "w")
    names: dict[str, Any] = {"__name__": "__main__"}
    for line in sys.stdin:
        done = run_block(**json.loads(line), names=names)
        sys.stdout.flush()
        sys.stderr.flush()
        answers.write(json.dumps({"failed": not done}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
