"""Under which licence what is published stands: asked for, never assumed.

In: what the publisher says; the concepts of a run. Out: a licence each, or one sentence that asks.
Only the drawn concepts that come with Perfbench are known, by their digests.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from benchmarks.options import named
from perfusion_core.errors import UserError

HIDDEN = "none"  # of pictures that are not published
# identifiers that the hub knows; any other one is `other` there, with its name
KNOWN = frozenset(
    """apache-2.0 mit openrail openrail++ creativeml-openrail-m bigscience-openrail-m unlicense cc
    cc0-1.0 cc-by-2.0 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0
    cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
    cc-by-nc-sa-4.0 odc-by odbl pddl bsd bsd-2-clause bsd-3-clause gpl-3.0 c-uda cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 other""".split()  # noqa: SIM905
)


def checked_licence(given: str, flag: str) -> str:
    """An identifier as the hub writes them: small letters."""
    found = given.strip().lower()
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{1,59}", found):
        raise UserError(
            f"{flag} {given[:60]!r} is no identifier of a licence; write one such as cc-by-4.0, "
            f"cc0-1.0 or apache-2.0"
        )
    return found


def said_of_photographs(given: str, concepts: Collection[str]) -> dict[str, str]:
    """Concept -> licence or `none`, of `--photographs LICENCE` or `NAME=LICENCE,...`."""
    if not given:
        return {}
    if "=" not in given:
        one = given if given == HIDDEN else checked_licence(given, "--photographs")
        return dict.fromkeys(concepts, one)
    found = named(given.split(","), "--photographs", "LICENCE, none or NAME=LICENCE,...")
    for name, licence in found.items():
        if name not in concepts:
            raise UserError(
                f"--photographs names {name!r:.60}, which is no concept of the run; it has "
                f"{', '.join(sorted(concepts))}"
            )
        if licence != HIDDEN:
            found[name] = checked_licence(licence, "--photographs")
    return found


def shipped_concepts(about: Mapping[str, Any]) -> dict[str, Any]:
    """The concepts of a run that are the drawn ones of this package, by name and digest."""
    from benchmarks.suite.catalog import load_catalog

    digests = about.get("digests", {}).get("concepts", {})
    known = [one for suite in ("miniature", "tuning") for one in load_catalog(suite).concepts]
    return {one.name: one for one in known if digests.get(one.name) == one.digest[:16]}


def ask_for_photographs(unknown: Collection[str]) -> UserError:
    """Whose licence nobody but the publisher can tell."""
    names = ", ".join(sorted(unknown)[:4]) + (" and others" if len(unknown) > 4 else "")
    return UserError(
        f"the pictures of {names} did not come with Perfbench, and only you know whose they are: "
        f"--photographs LICENCE publishes them (cc-by-4.0, or NAME=LICENCE,...), --photographs "
        f"none leaves them out"
    )
