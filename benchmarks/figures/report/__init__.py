"""The report: one self-contained page about a run.

Reading order: report_page (the whole), at_a_glance, run_results, result_table and sections (its
parts), figure_words (figures told in numbers), gallery (its images), html (its small pieces);
assets/ holds page, style and script. cost_table is a section of its own.
"""
