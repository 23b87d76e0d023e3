"""The paper's two rating studies as a kit: export a page, collect answers, analyse.

Reading order: material (what is shown), design (to whom, in which order), blinding, screens,
export, answers, serve, collect, agreement and estimate (the statistics), results, text_and_figure,
analysis.
"""
