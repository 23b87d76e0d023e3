"""The report: one self-contained page about a run.

Reading order: report_page (the whole), run_results and sections (its parts), gallery (its images),
html (its small pieces); assets/ holds page, style and script.
"""
