"""The checks of a built folder find what they are for."""

import pytest

from website.built_pages import problems

GOOD = """<html><head><link rel="stylesheet" href="a.css">
<link rel="canonical" href="https://x.org/">
</head><body><h1 id="top">T</h1><a href="#top">up</a> <a href="https://x.org/y">elsewhere</a>
<a href="sub/">sub</a> <a href="sub/index.html#deep">deep</a><img src="data:image/png;base64,AA">
<p>1 - 2 is a sum, not a list.</p><p><b>1. Bold.</b> No list.</p></body></html>"""


def site(folder, body=""):
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "index.html").write_text(GOOD.replace("</body>", f"{body}</body>"))
    (folder / "sub" / "index.html").write_text('<h2 id="deep">D</h2><a href="../a.css">c</a>')
    (folder / "a.css").write_text("p { background: url('b.png') }")
    return folder


def test_a_good_folder_has_no_problems(tmp_path):
    assert problems(site(tmp_path)) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('<a href="no.html">x</a>', "links to no.html, which is not there"),
        ('<a href="sub/index.html#no">x</a>', "there is no such heading"),
        ('<a href="#no">x</a>', "there is no such heading"),
        ('<a href="../../etc/passwd">x</a>', "leads out of the site"),
        ('<img src="no.png">', "links to no.png"),
        ('<script src="https://x.org/a.js"></script>', "fetches https://x.org/a.js"),
        ('<script src="//x.org/a.js"></script>', "fetches //x.org/a.js"),
        (
            '<img src="a.css" srcset="a.css 1x, http://x.org/b.png 2x">',
            "fetches http://x.org/b.png",
        ),
        ('<link rel="preconnect" href="https://fonts.gstatic.com">', "fetches https://fonts"),
        ("<style>@import 'https://x.org/f.css';</style>", "fetches https://x.org/f.css"),
        ('<p style="background: url(https://x.org/i.png)">x</p>', "fetches https://x.org/i.png"),
        ('<iframe src="https://x.org/"></iframe>', "fetches https://x.org/"),
        ("<p>words:\n- one\n- two</p>", "shows a list or a table as text"),
        ("<p>| a | b |\n|---|---|</p>", "shows a list or a table as text"),
    ],
)
def test_each_fault_is_one_sentence(tmp_path, body, said):
    [found] = problems(site(tmp_path, body))
    assert said in found and found.startswith("index.html ")


def test_style_sheets_are_looked_at_too(tmp_path):
    (site(tmp_path) / "a.css").write_text("@font-face { src: url(https://fonts.gstatic.com/x) }")
    assert problems(tmp_path) == ["a.css fetches https://fonts.gstatic.com/x"]
