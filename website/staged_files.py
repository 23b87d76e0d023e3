"""What mkdocs is given: pages by hand, pages made from the code, and whatever they link to.

In: the repository. Out: place -> a file of the repository, or text. Places are those of the
repository, so a link that works there works on the site, and in the copies as Markdown too.

A page that is linked and in no menu (a run's table, a README further down) comes along with all
that it links to itself.
"""

import posixpath
import re
from pathlib import Path
from urllib.parse import unquote

from website.navigation import ENTRIES, ROOT, pages
from website.page_blocks import FENCE
from website.reference import made_pages

LINK = re.compile(r"(?<!`)\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)<>\s]+)>?(?:\s+\"[^\"]*\")?\s*\)")
IN_HTML = re.compile(r"""<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=["']([^"'\s]+)""", re.I)
FOREIGN_IMG = re.compile(r"""<img\b[^>]*?\bsrc=["'](?:https?:)?//[^>]*>""", re.I)
FOREIGN_PICTURE = re.compile(r"!\[([^\]]*)\]\(\s*<?(?:https?:)?//[^)]*\)")
ELSEWHERE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//|#)", re.I)
ITEM = re.compile(r"^ *(?:[-*+]|\d+\.) +\S")


def without_code(text: str) -> str:
    """A page's prose: no fences, no spans of code."""
    return re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", FENCE.sub("", text), flags=re.S)


def links_of(text: str) -> list[str]:
    """Targets of links and pictures, as they are written, in Markdown or as HTML."""
    prose = without_code(text)
    return LINK.findall(prose) + IN_HTML.findall(prose)


def target_of(page: str, link: str) -> str:
    """The place that a relative link names, without its anchor; empty: the page itself."""
    path = unquote(link.partition("#")[0])
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page


def local_links(page: str, text: str) -> list[str]:
    """Places that a page links to, inside of the repository."""
    found = [link for link in links_of(text) if not ELSEWHERE.match(link)]
    return [target_of(page, link) for link in found]


def staged(root: Path = ROOT) -> dict[str, Path | str]:
    """Everything that the site is made of but its theme."""
    made = made_pages()
    files: dict[str, Path | str] = {**made}
    waiting = pages(root)
    for page, text in made.items():
        waiting += local_links(page, text)
    while waiting:
        place = waiting.pop()
        path = root / place
        if place in files or place.startswith("..") or not path.is_file():
            continue  # what is not there, mkdocs reports where it is linked
        files[place] = path
        if path.suffix == ".md":
            waiting += local_links(place, path.read_text(encoding="utf-8"))
    return files


def in_menu(place: str) -> bool:
    return place in ENTRIES or place in made_pages()


def without_foreign_pictures(text: str) -> str:
    """A picture on another host (a badge) becomes its words: a page asks no other host."""

    def in_words(prose: str) -> str:
        return FOREIGN_IMG.sub(alt_of, FOREIGN_PICTURE.sub(r"\1", prose))

    parts, at = [], 0
    for fence in FENCE.finditer(text):
        parts += [in_words(text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, in_words(text[at:])])


def alt_of(img: re.Match[str]) -> str:
    found = re.search(r"""\balt=["']([^"']*)""", img[0], re.I)
    return found[1] if found else ""


def as_mkdocs_reads_it(text: str) -> str:
    """Lists as Python-Markdown wants them: a blank line before the first item, and what belongs to
    an item four blanks further right, where GitHub asks for the width of its marker alone.
    """
    lines: list[str] = []
    offsets: list[int] = []  # where the content of each open item begins in the source
    fence, blank, was_item = "", True, False
    for line in text.splitlines():
        if not line.strip():
            lines.append("")
            blank = True
            continue
        indent = len(line) - len(line.lstrip())
        item = None if fence else ITEM.match(line)
        while offsets and indent < offsets[-1] and (blank or item or was_item) and not fence:
            if was_item and not item and not blank:
                break  # an item's second line that was not indented
            offsets.pop()
        inner = max(indent - offsets[-1], 0) if offsets else indent
        if item and not blank and not was_item:
            lines.append("")
        lines.append(" " * (4 * len(offsets) + inner) + line.lstrip())
        if item:
            offsets.append(item.end() - 1)
        mark = re.match(r"(`{3,}|~{3,})", line.lstrip())
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        was_item = bool(item) or (was_item and not blank)  # in an item's own first paragraph
        blank = False
    return "\n".join([*lines, ""])
