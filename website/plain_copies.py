"""Every page as Markdown beside its HTML, and llms.txt, which lists them for programs that read.

In: the pages of a build. Out: files in the built folder.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from website.navigation import SECTIONS
from website.page_blocks import COMMENT, FENCE, title_of
from website.staged_files import without_code

SUMMARY = (
    "Perfbench trains, generates, scores and plots text-to-image personalization methods side by "
    "side. All pages below are Markdown; the same places ending in .html are for people. "
    "A line names what its page is opened for."
)
# headings, tables, fences, lists, HTML, pictures, quotes
NO_PROSE = re.compile(r"#|\||```|~~~|[-*+] |\d+\. |<|!|>")


def first_sentence(text: str) -> str:
    """Of the first paragraph below the title, without links."""
    prose = FENCE.sub("", COMMENT.sub("", text))
    body = prose if prose.startswith("# ") else prose.partition("\n# ")[2]
    for paragraph in re.split(r"\n\s*\n", body)[1:]:
        plain = " ".join(re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", paragraph).split())
        if plain and not NO_PROSE.match(plain) and without_code(plain).strip():
            return re.split(r"(?<=[.:]) ", plain)[0].replace("**", "").rstrip(":")
    return ""


def llms_txt(texts: Mapping[str, str], base: str = "") -> str:
    """The convention of llmstxt.org: a title, a summary, and a list of links a section."""
    lines = ["# Perfbench", "", f"> {SUMMARY}"]
    listed = set()
    for section, entries in SECTIONS.items():
        shown = [entry for entry in entries if entry.path in texts]
        lines += ["", f"## {section}", ""]
        for entry in shown:
            text = texts[entry.path]
            note = entry.wants or first_sentence(text)
            link = f"- [{title_of(text)}]({base}{entry.path})"
            lines.append(link + (f": {note}" if note else ""))
            listed.add(entry.path)
    rest = sorted(set(texts) - listed)
    lines += ["", "## Optional", ""]
    lines += [f"- [{title_of(texts[path]) or path}]({base}{path})" for path in rest]
    return "\n".join([*lines, ""])


def write_copies(texts: Mapping[str, str], site: Path, base: str = "") -> None:
    """A README is index.html on the site, so its copy lies under both names."""
    for place, text in texts.items():
        target = site / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        if target.name == "README.md":
            target.with_name("index.md").write_text(text, encoding="utf-8")
    (site / "llms.txt").write_text(llms_txt(texts, base), encoding="utf-8")
