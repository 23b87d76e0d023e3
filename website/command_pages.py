"""A page for each verb of the command line, made from its parser.

In: the verbs (`benchmarks.cli`). Out: Markdown by the page's place. Nothing is written twice: the
words are those of `perfbench VERB --help`.
"""

import argparse
import html
import re

from benchmarks import cli
from website.navigation import MADE

CODE = re.compile(r"`[^`]*`")


def place_of(verb: str) -> str:
    return f"{MADE}perfbench-{verb}.md"


def cell(text: str) -> str:
    """Words of a help text in a cell of a table: nothing in it is read as Markdown but `code`."""
    parts, at = [], 0
    text = " ".join(text.split())
    for span in CODE.finditer(text):
        parts += [escaped(text[at : span.start()]), code(span[0][1:-1])]
        at = span.end()
    return "".join([*parts, escaped(text[at:])])


def code(text: str) -> str:
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"


def escaped(text: str) -> str:
    text = html.escape(text, quote=False)
    return re.sub(r"([\\*\[\]])", r"\\\1", text).replace("|", "&#124;")


def words_of(action: argparse.Action) -> str:
    """`--flag VALUE` as it is typed."""
    if not action.option_strings:
        named = action.metavar or action.dest
        return code(named if isinstance(named, str) else " ".join(named))
    value = ""
    if action.nargs != 0:
        given = action.metavar or (
            "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
        )
        value = " ".join(given) if isinstance(given, tuple) else given or action.dest.upper()
    return " ".join(code(f"{flag} {value}".strip()) for flag in action.option_strings)


def help_of(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    if not action.help or action.help == argparse.SUPPRESS:
        return ""
    return cell(action.help % {**vars(action), "prog": parser.prog})


def paragraphs(text: str) -> list[str]:
    """A docstring: its first line, and what follows it as it stands in the help."""
    first, _, rest = text.strip().partition("\n")
    lines = [f"{escaped(first)}", ""]
    if rest.strip():
        lines += ["```text", *(line.rstrip() for line in dedented(rest)), "```", ""]
    return lines


def dedented(text: str) -> list[str]:
    lines = text.strip("\n").splitlines()
    least = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [line[least:] for line in lines]


def described(parser: argparse.ArgumentParser, level: str) -> list[str]:
    """Usage, a table of its words, and the same of each subverb."""
    usage = parser.format_usage().strip().removeprefix("usage: ").replace("\n       ", "\n")
    lines = ["```text", usage, "```", ""]
    below = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    rows = [
        f"| {words_of(action)} | {help_of(parser, action)} |"
        for action in parser._actions
        if action.help != argparse.SUPPRESS
        and action not in below
        and "--help" not in action.option_strings
    ]
    if rows:
        lines += ["| argument | what it is |", "|---|---|", *rows, ""]
    for subverbs in below:
        summaries = {one.dest: one.help or "" for one in subverbs._choices_actions}
        for name, sub in subverbs._name_parser_map.items():
            lines += [f"{level} {sub.prog}", "", cell(summaries.get(name, "")), ""]
            lines += described(sub, level + "#")
    return lines


def command_page(verb: str) -> str:
    describe = cli.VERBS[verb]
    parser = cli.Parser(
        prog=f"perfbench {verb}",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=88),
    )
    describe(parser)
    lines = [f"# perfbench {verb}", "", *paragraphs(describe.__doc__ or "")]
    return "\n".join([*lines, *described(parser, "##")])


def command_pages() -> dict[str, str]:
    """The list of all verbs by purpose, and a page for each."""
    lines = [
        "# Commands",
        "",
        "This page and those of the verbs are made from the program's own help. What somebody",
        "wants to do, and which page says how, is in [all pages](../README.md). Keys of `--set`",
        "are in [settings](settings.md).",
    ]
    for purpose, verbs in cli.GROUPS.items():
        lines += ["", f"## {purpose.capitalize()}", "", "| verb | what it does |", "|---|---|"]
        for verb in verbs:
            first = (cli.VERBS[verb].__doc__ or "").strip().splitlines()[0]
            name = place_of(verb).removeprefix(MADE)
            lines.append(f"| [{code('perfbench ' + verb)}]({name}) | {cell(first)} |")
    made = {f"{MADE}commands.md": "\n".join([*lines, ""])}
    for verb in sorted(cli.VERBS):
        made[place_of(verb)] = command_page(verb)
    return made
