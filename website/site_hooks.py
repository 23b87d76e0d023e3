"""Where mkdocs calls the rest: which files there are, the menu, and what is checked at the end.

In: mkdocs.yml, which names this file. Out: a site, or one sentence for each thing that is wrong.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # mkdocs loads this file alone

from website import built_pages, navigation
from website.plain_copies import write_copies
from website.reference import below
from website.staged_files import (
    as_mkdocs_reads_it,
    in_menu,
    staged,
    without_foreign_pictures,
)

log = logging.getLogger("mkdocs.hooks.website")
STYLE = Path(__file__).parent / "theme"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The menu is the table of navigation.py; the site's address is known where it is published."""
    if said := navigation.problems():
        raise PluginError("; ".join(said))
    config.nav = navigation.menu(below())
    if address := os.environ.get("PERFBENCH_SITE_URL"):
        config.site_url = address.rstrip("/") + "/"
        config.nav += navigation.beside(config.site_url)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The repository's files in the places that they have there; nothing else of docs/."""
    kept = [file for file in files if not file.src_uri.endswith(".md") and not in_docs(file)]
    made = []
    for place, source in staged().items():
        page = place.endswith(".md")
        level = (
            InclusionLevel.NOT_IN_NAV if page and not in_menu(place) else InclusionLevel.INCLUDED
        )
        what = {"abs_src_path": str(source)} if isinstance(source, Path) else {"content": source}
        made.append(File.generated(config, place, inclusion=level, **what))
    made.append(File.generated(config, "site.css", abs_src_path=str(STYLE / "site.css")))
    return Files([*kept, *made])


def in_docs(file: File) -> bool:
    """Of mkdocs' own walk through docs/; the theme's files come from elsewhere."""
    return file.src_dir is not None and Path(file.src_dir) == navigation.ROOT / "docs"


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    page.meta["markdown"] = Path(page.file.src_uri).name
    return as_mkdocs_reads_it(without_foreign_pictures(markdown))


def on_post_build(config: MkDocsConfig) -> None:
    """Copies as Markdown, llms.txt, then the checks."""
    site = Path(config.site_dir)
    texts = {
        place: source if isinstance(source, str) else source.read_text(encoding="utf-8")
        for place, source in staged().items()
        if place.endswith(".md")
    }
    write_copies(texts, site, config.site_url or "")
    said = built_pages.problems(site)
    for sentence in said:
        log.warning(sentence)
    log.info(f"{len(texts)} pages, {len(list(site.rglob('*.html')))} of HTML, all links followed")
