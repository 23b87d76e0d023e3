"""All pages that are made from the code.

In: the parsers, the settings, the docstrings. Out: Markdown by place, and which page stands below
which in the menu.
"""

from functools import cache

from benchmarks import cli
from website.command_pages import command_pages, place_of
from website.docstring_pages import docstring_pages
from website.navigation import MADE
from website.setting_pages import setting_pages


@cache
def made_pages() -> dict[str, str]:
    return {**command_pages(), **setting_pages(), **docstring_pages()}


def below() -> dict[str, list[dict[str, str]]]:
    """The verbs' pages stand below that of all commands, in the order of `perfbench --help`."""
    grouped = [verb for verbs in cli.GROUPS.values() for verb in verbs]
    verbs = [*grouped, *sorted(cli.VERBS.keys() - set(grouped))]
    return {f"{MADE}commands.md": [{verb: place_of(verb)} for verb in verbs]}
