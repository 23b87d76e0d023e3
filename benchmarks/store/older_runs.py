"""run.json of earlier versions, read as if this one had written it. In: an object of an older
schema. Out: the same in today's shape, with what it does not tell left empty; nothing is rewritten.

Schema 1 (20 and 21 November 2026) had one digest of all prompts, one of all concepts and one of a
method's trained files, where schema 2 has one of each. Rows and tables are the same, so they are
read; what needs the digests refuses such a run.
"""

from collections.abc import Mapping
from typing import Any

OLDER = "upgraded_from"  # the key that says so, in memory alone
OF_SCHEMA_1 = {"prompts", "concepts", "plan"}


def upgraded(found: Mapping[str, Any], to: int) -> dict[str, Any] | None:
    """None for what no earlier version wrote."""
    digests = found.get("digests")
    if found.get("schema") != 1 or not isinstance(digests, dict) or set(digests) != OF_SCHEMA_1:
        return None
    if not all(isinstance(digest, str) for digest in digests.values()):
        return None
    of_each: dict[str, Any] = {"plan": digests["plan"], "concepts": {}, "masks": {}, "prompts": {}}
    return {**found, "schema": to, OLDER: 1, "digests": of_each, "weights": {}}
