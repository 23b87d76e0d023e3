"""A repository of the hub, before and while something is sent to it.

In: its name, what shall go there. Out: what it holds and who sees it; the digest of one commit.
What may not be sent is a sentence before anything is.
"""

import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.exchange.card_pictures import FIGURE
from benchmarks.exchange.model_card import CARD, named_by
from perfusion_core.errors import UserError
from perfusion_core.hub import first_line
from perfusion_core.hub_concepts import EXPORTS

MODEL: str | None = None  # the usual kind of repository, which has no word
LONGEST = 1_000_000  # bytes of a README that may be a card of ours


class Repository(NamedTuple):
    """As it was found; nothing is there yet where it has no revision."""

    revision: str | None
    private: bool
    files: frozenset[str]
    ours: frozenset[str]  # those that an earlier card names, and the card

    def replaced(self, names: Collection[str]) -> list[str]:
        return sorted(self.files & set(names))

    def deleted(self, names: Collection[str]) -> list[str]:
        """Of an earlier push, what would be taken for a part of this one."""
        concept = any(is_concept(name) for name in names)
        stale = {
            name
            for name in self.files & self.ours
            if name.startswith("images/")
            or name == FIGURE
            or name.endswith(".parquet")
            or (concept and is_concept(name))
        }
        return sorted(stale - set(names))


def is_concept(name: str) -> bool:
    return name.endswith(".safetensors") and "/" not in name and not name.endswith(EXPORTS)


def look(repo: str, kind: str | None = MODEL) -> Repository:
    """What is there now; refused where this token may not write. `kind`: the hub's word for it."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api = HfApi()
    with said_plainly(repo):
        try:
            found = api.repo_info(repo, repo_type=kind, files_metadata=True)
        except RepositoryNotFoundError:
            check_owner(repo, api.whoami())
            return Repository(None, False, frozenset(), frozenset())
        api.auth_check(repo, repo_type=kind, write=True)
        sizes = {one.rfilename: one.size or 0 for one in getattr(found, "siblings", None) or []}
        named: frozenset[str] = frozenset()
        if CARD in sizes and sizes[CARD] <= LONGEST:
            with tempfile.TemporaryDirectory(prefix="perfbench-card-") as aside:
                place = api.hf_hub_download(
                    repo, CARD, repo_type=kind, revision=found.sha, local_dir=aside
                )
                named = named_by(Path(place).read_text(encoding="utf-8", errors="replace"))
    return Repository(found.sha, bool(found.private), frozenset(sizes), named)


def check_owner(repo: str, who: dict[str, object]) -> None:
    """Of a repository that is not there yet, as far as the token tells."""
    auth = who.get("auth")
    token = auth.get("accessToken") if isinstance(auth, dict) else None
    role = token.get("role") if isinstance(token, dict) else None
    groups = who.get("orgs")
    owners = [one.get("name") for one in groups] if isinstance(groups, list) else []
    owner = repo.partition("/")[0].casefold()
    known = {str(name).casefold() for name in (who.get("name"), *owners)}
    if role == "read":
        raise UserError(
            f"{repo} cannot be made with a token that only reads; take one that writes "
            f"(`hf auth login`, HF_TOKEN)"
        )
    if role == "write" and owner not in known:
        raise UserError(
            f"the hub does not take {repo}: your token may write there only where the owner is "
            f"{' or '.join(sorted(known))}; check the owner's name"
        )


def check_seen(repo: str, there: Repository, private: bool) -> None:
    """A repository keeps who sees it, whatever a later push asks for."""
    if private and there.revision and not there.private:
        raise UserError(
            f"{repo} is there already, for all to see, and --private does not change that; make it "
            f"private in its settings on the hub first, or give another name"
        )


def check_there(
    repo: str, there: Repository, names: Collection[str], overwrite: bool, remedy: str
) -> None:
    """Whatever would be lost, or stand beside what is sent and be taken for it."""
    strange = sorted(filter(is_concept, there.files - there.ours - set(names)))
    if strange and any(map(is_concept, names)):
        raise UserError(
            f"{repo} holds {strange[0]}, which its card does not name, and beside another concept "
            f"neither could be opened; give another name, or remove it there"
        )
    changed = [*there.replaced(names), *there.deleted(names)]
    if changed and not overwrite:
        raise UserError(
            f"{repo} holds {', '.join(sorted(changed))[:200]} already; give another name, or "
            f"{remedy}"
        )


def send(
    repo: str,
    folder: Path,
    names: Sequence[str],
    there: Repository,
    title: str,
    kind: str | None = MODEL,
) -> str:
    """One commit, on top of what was looked at; -> its digest."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    adds = [CommitOperationAdd(name, folder / name) for name in names]
    removes = [CommitOperationDelete(name) for name in there.deleted(names)]
    with said_plainly(repo):
        done = HfApi().create_commit(
            repo,
            [*adds, *removes],
            repo_type=kind,
            commit_message=title,
            parent_commit=there.revision,
        )
    return str(done.oid)


@contextmanager
def said_plainly(repo: str) -> Iterator[None]:
    """What the hub or the network answers is one sentence, without a token."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        yield
    except UserError:
        raise
    except HfHubHTTPError as error:
        raise UserError(
            f"the hub does not take {repo} ({first_line(error)}): check the owner's name, and that "
            f"your token may write there (`hf auth login`, HF_TOKEN)"
        ) from error
    except (OSError, HTTPError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{repo} was not sent: the hub cannot be reached or refuses it ({first_line(error)}); "
            f"the same command tries again"
        ) from error
