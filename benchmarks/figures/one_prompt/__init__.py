"""One prompt drawn, outside of a run: pictures, a sheet of them, and a page with a slider.

Reading order: wanted (what was asked for), drawn_prompt (`generate`), prompt_sheet, sweep_page.
"""
