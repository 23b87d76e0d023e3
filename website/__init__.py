"""The site of the documentation: the repository's own pages, and what the code says of itself.

Reading order: navigation (which page stands where in the menu), page_blocks (the commands and
Python of a page, and their marks), command_pages, setting_pages and docstring_pages (what is made
from the code) with reference (all of that), staged_files (what mkdocs is given), plain_copies
(every page as Markdown, and llms.txt), built_pages (what is checked in the built folder),
site_hooks (where mkdocs calls all of these); session and run_blocks (every block is run, or says
why not); interval_picture (the picture of docs/worked-example.md).

None of it is in the wheel: `mkdocs build --strict` and `python -m website.run_blocks` need a clone.
"""
