"""The menu is whole: no page without an entry, no entry without a page."""

import shutil

from website import navigation
from website.navigation import INDEX, MADE, ROOT, SECTIONS


def copy_of_pages(folder):
    for path in [*navigation.pages()]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    return folder


def test_nothing_is_wrong_with_the_table():
    assert navigation.problems() == []
    paths = [entry.path for section in SECTIONS.values() for entry in section]
    assert len(paths) == len(set(paths))


def test_a_page_in_no_menu_is_told(tmp_path):
    root = copy_of_pages(tmp_path)
    (root / "docs" / "new.md").write_text("# New\n")
    assert navigation.problems(root) == [
        "docs/new.md is in no menu: add it to SECTIONS in website/navigation.py"
    ]


def test_an_entry_without_a_page_is_told(tmp_path):
    root = copy_of_pages(tmp_path)
    (root / "docs" / "cite.md").unlink()
    assert navigation.problems(root) == [
        "website/navigation.py names docs/cite.md, which is not there"
    ]


def test_a_page_that_the_list_lacks_is_told_with_the_command(tmp_path):
    root = copy_of_pages(tmp_path)
    (root / "docs" / "cite.md").write_text("# Another title\n")
    [said] = navigation.problems(root)
    assert INDEX in said and "`python -m website.navigation`" in said
    (root / INDEX).write_text(navigation.written(root))
    assert navigation.problems(root) == []
    assert "[Another title](cite.md)" in (root / INDEX).read_text()


def test_a_page_where_generated_ones_go_is_told(tmp_path):
    root = copy_of_pages(tmp_path)
    (root / MADE).mkdir()
    (root / MADE / "api.md").write_text("# Mine\n")
    assert "would be overwritten" in navigation.problems(root)[0]


def test_the_menu_has_each_page_once():
    from website.reference import below, made_pages

    def leaves(nav):
        for row in nav:
            if isinstance(row, str):
                yield row
            else:
                [value] = row.values()
                yield from [value] if isinstance(value, str) else leaves(value)

    found = list(leaves(navigation.menu(below())))
    assert sorted(found) == sorted([*navigation.pages(), *made_pages()])
