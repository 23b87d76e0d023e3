"""The two rating studies of the paper's section 5.2 and Appendix I, as a kit: export a page, collect answers, analyse.

Reading order: material (what is shown), design (to whom, in which order), pictures (blinding), export, answers, serve,
agreement and estimate (the statistics), analyse.
"""
