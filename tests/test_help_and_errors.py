"""The prose of the command line: help texts of every parser, and the sentences of errors.

A sentence of a help text, and the literal part of a message that is raised, has at most 40 words.
Examples, lines that begin with `perfbench`, are no prose; a span of code counts as one word.
"""

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import cli

ROOT = Path(__file__).parent.parent
LONGEST = 40
# what is raised and is no sentence for a user: a mistake in our own code, or a system's own words
WORD_LISTS = {"perfbench miniature show"}  # whose epilog is a vocabulary
NO_SENTENCE = {"ValueError", "AssertionError", "AttributeError", "RuntimeError", "SystemExit"}


def words(sentence: str) -> int:
    plain = re.sub(r"`[^`]+`", "CODE", sentence)
    return len([word for word in plain.split() if re.search(r"\w", word)])


def sentences(text: str) -> list[str]:
    """Of a help text: examples and their continued lines are left out. A paragraph is a block, and
    so is a line with two columns."""
    text = re.sub(r"\\\n\s*", "", text)
    kept = [line for line in text.splitlines() if not line.strip().startswith("perfbench ")]
    blocks = re.split(r"\n\s*\n|\n(?=.*\S  +\S)", "\n".join(kept))
    return [
        one
        for block in blocks
        for one in re.split(r"(?<=[.?!:])\s+", " ".join(block.split()))
        if words(one)
    ]


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A verb's parser and those of its subverbs."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from parsers(sub)


def parser_of(verb: str) -> cli.Parser:
    parser = cli.Parser(prog=f"perfbench {verb}", description=cli.VERBS[verb].__doc__)
    cli.VERBS[verb](parser)
    return parser


def too_long(texts: list[str]) -> list[str]:
    return [
        f"{words(one)} words: {one}"
        for text in texts
        for one in sentences(text)
        if words(one) > LONGEST
    ]


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_help_of_every_verb_has_short_sentences(verb):
    texts = []
    for parser in parsers(parser_of(verb)):
        texts.append(parser.description or "")
        texts.append("" if parser.prog in WORD_LISTS else parser.epilog or "")
        texts += [action.help or "" for action in parser._actions]
    assert any(texts) and too_long(texts) == []


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_every_argument_says_what_it_is(verb):
    """Every subverb has a description and every argument a help text, which no newcomer has to
    complete from the name of its flag."""
    for parser in parsers(parser_of(verb)):
        assert parser.description, parser.prog
        for action in parser._actions:
            if action.help is argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction):
                continue
            assert action.help, (parser.prog, action.dest)
            assert not re.match(r"(of|as in|default)\b", action.help), (parser.prog, action.help)


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_a_number_that_help_tells_as_the_default_is_the_default(verb):
    for parser in parsers(parser_of(verb)):
        for action in parser._actions:
            told = re.search(r"\(default: ([\d.]+)[,)]", action.help or "")
            if told and action.default is not None:
                assert float(told[1]) == float(action.default), (parser.prog, action.dest)


@pytest.mark.parametrize(
    ("verb", "flag", "told"),
    [
        ("run", "--preset", "settings to start from (default: paper)"),
        ("evaluate", "--preset", "settings to start from (default: quick)"),
        ("fit", "--backbone", "hub id (default: miniature)"),
        ("push", "--backbone", "hub id (default: the concept's own)"),
    ],
)
def test_a_verb_with_another_default_tells_its_own(verb, flag, told):
    (action,) = (one for one in parser_of(verb)._actions if flag in one.option_strings)
    assert told in (action.help or "")


def test_help_texts_in_the_source_are_short():
    """Of every parser, also of `python -m benchmarks.speed` and its like, which load torch."""
    seen, long = 0, []
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        texts = [literal(key.value) for call in calls for key in call.keywords if key.arg == "help"]
        if any(_name(call) == "ArgumentParser" for call in calls):
            texts.append(ast.get_docstring(tree) or "")
        seen += len(texts)
        long += [f"{path.relative_to(ROOT)}: {fault}" for fault in too_long(texts)]
    assert seen > 250 and long == []


def test_the_first_page_has_short_sentences():
    assert too_long(cli.usage().splitlines()) == []


def test_help_wraps_prose_and_keeps_examples(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    example = "  perfbench run --methods " + "perfusion," * 10
    text = cli.Parser(prog="perfbench x", description="word " * 30 + f"\n{example}").format_help()
    assert example in text.splitlines()
    assert all(len(line) <= 60 for line in text.splitlines() if line != example)


def test_examples_of_a_verb_stand_two_columns_to_the_right():
    assert cli.described(cli.VERBS["ls"].__doc__).splitlines()[2].startswith("  perfbench ls ")
    assert cli.described("A verb.\n\n    More.\n\n      perfbench a \\\n          --b").endswith(
        "\n\nMore.\n\n  perfbench a \\\n      --b"
    )


def literal(node: ast.expr) -> str:
    """The literal part of a message; what is filled in counts as one word. Of two ways to say it
    the longer one."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return literal(node.left) + literal(node.right)
    if isinstance(node, ast.IfExp):
        return max(literal(node.body), literal(node.orelse), key=words)
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.IfExp):
        return literal(node.value)
    return "X"


def messages(source: str) -> list[tuple[int, str]]:
    """Line and literal part of what is raised, and of `UserError`s that are made to be raised
    later."""
    nodes = list(ast.walk(ast.parse(source)))
    raised = {id(node.exc) for node in nodes if isinstance(node, ast.Raise)}
    return sorted(
        (node.lineno, literal(node.args[0]))
        for node in nodes
        if isinstance(node, ast.Call) and node.args
        if _name(node) == "UserError" or (id(node) in raised and _name(node) not in NO_SENTENCE)
    )


def _name(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


@pytest.mark.parametrize("package", ["perfusion_core", "baselines", "benchmarks"])
def test_errors_are_short_sentences(package):
    found = [
        (path, line, message)
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, message in messages(path.read_text(encoding="utf-8"))
    ]
    assert len(found) > 5
    long = [
        f"{path.relative_to(ROOT)}:{line}: {words(message)} words: {message}"
        for path, line, message in found
        if words(message) > LONGEST
    ]
    assert long == []


def test_what_counts():
    source = """
def f(a):
    if a:
        raise UserError(f"{a} is wrong; " + ("type b" if a else "type a b c"))
    error = UserError("later")
    raise Refused(f"no{'' if a else ' more than one'}")
    raise ValueError("our own mistake")
"""
    assert [text for _, text in messages(source)] == [
        "X is wrong; type a b c",
        "later",
        "no more than one",
    ]
    assert sentences("One. Two words:\n\n  perfbench run \\\n    --all\n  0  nothing\n  1  a") == [
        "One.",
        "Two words:",
        "0 nothing",
        "1 a",
    ]
    assert too_long([" ".join(["word"] * 41) + "."]) and not too_long(["`a b c` is x. " * 20])
    assert words("`perfbench run --all` is one, 0.5") == 4
