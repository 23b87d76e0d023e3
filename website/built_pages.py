"""What is checked in the built folder, whatever wrote it.

In: a folder of HTML. Out: sentences about links to nothing, anchors that no page has, anything that
a browser would fetch from another host, and lists or tables that came out as text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# what a browser fetches by itself when it opens a page
FETCHED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "input": ("src",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
}
# a link element that loads nothing
NAMED_ONLY = {"canonical", "alternate", "prev", "next", "author", "license", "edit"}
IN_STYLE = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")
FOREIGN = re.compile(r"^(?:[a-z][a-z0-9+.-]*:)?//", re.I)
# a line of a paragraph that was meant as a list or a table
AS_TEXT = re.compile(r"^(?:- \S|\|.*\|$)|\n\d+\. \S", re.M)


@dataclass
class Html(HTMLParser):
    """Of one file: ids, links, what it fetches, the text of its paragraphs."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    paragraphs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids.update(values[name] for name in ("id", "name") if values.get(name))
        if tag in ("a", "area") and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and not set(values.get("rel", "").split()) & NAMED_ONLY:
            self.fetched.append(values.get("href", ""))
        for name in FETCHED.get(tag, ()):
            if values.get(name):
                parts = values[name].split(",") if name == "srcset" else [values[name]]
                self.fetched += [part.split()[0] for part in parts if part.split()]
        self.fetched += addresses_in_style(values.get("style", ""))
        if tag in ("p", "style"):
            self.inside.append(tag)
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("p", "style") and self.inside:
            self.inside.pop()
            text = self.paragraphs[-1]
            if tag == "style":
                self.fetched += addresses_in_style(self.paragraphs.pop())
            elif not text:
                self.paragraphs.pop()

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.paragraphs[-1] += data


def addresses_in_style(text: str) -> list[str]:
    found = [one or other for one, other in IN_STYLE.findall(text)]
    return [one for one in found if not one.startswith(("data:", "#"))]


def read(path: Path) -> Html:
    html = Html()
    html.feed(path.read_text(encoding="utf-8"))
    html.close()
    return html


def problems(site: Path) -> list[str]:
    """Of all pages; none: the folder can be served."""
    known = {path: read(path) for path in sorted(site.rglob("*.html"))}
    said: list[str] = []
    for path, html in known.items():
        at = path.relative_to(site).as_posix()
        said += [f"{at} fetches {one}" for one in html.fetched if FOREIGN.match(one)]
        for link in dict.fromkeys([*html.links, *html.fetched]):
            if path.name != "404.html" or not link.startswith("/"):
                said += wrong_link(site, path, link, known)
        said += [
            f"{at} shows a list or a table as text: {' '.join(text.split())[:90]!r}"
            for text in html.paragraphs
            if AS_TEXT.search(text)
        ]
    for path in sorted(site.rglob("*.css")):
        for one in addresses_in_style(path.read_text(encoding="utf-8")):
            if FOREIGN.match(one):
                said.append(f"{path.relative_to(site).as_posix()} fetches {one}")
    return said


def wrong_link(site: Path, page: Path, link: str, known: dict[Path, Html]) -> Iterator[str]:
    at = page.relative_to(site).as_posix()
    parts = urlsplit(link)
    if parts.scheme or parts.netloc or link in ("", "#"):
        return
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= "index.html"
    if not target.is_relative_to(site.resolve()):
        yield f"{at} leads out of the site: {link}"
    elif not target.is_file():
        yield f"{at} links to {link}, which is not there"
    elif parts.fragment and target in known:
        wanted = unquote(parts.fragment)
        if wanted not in known[target].ids and not wanted.startswith("__"):
            yield f"{at} links to {link}, and there is no such heading"
