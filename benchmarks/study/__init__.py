"""The paper's two rating studies as a kit: export a page, collect answers, analyse.

Reading order: material (what is shown), design (to whom, in which order), qualification (trials
with a known answer), blinding, screens, contact_sheet, signing, export, local_http (what any server
of ours answers with), answers, serve with desk, collect, agreement and estimate (the statistics),
results, text_and_figure, analysis, command.
"""
