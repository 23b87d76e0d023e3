"""Numbers from rows: means, intervals, tables, and the regression gate.

Reading order: statistics (pure functions of arrays), grid (cells as arrays), measured (measures
beyond the protocol) and drift_table (what a concept does to everything else), frames (tidy frames
of them), dominance (fronts) and one_number (summaries), sample_rows (all scorers' rows side by
side), build (rows to tables) with costs (of fits), difficulty (by grades), scorers_alike (of two
scorers), table_text and views (for people), derived (the tables of a run, read back), run_view (a
run folder as readers see it) and as_scored (by another of its scorers), comparable, margins,
judging, judged_measures, gate and gate_report (is one run worse than another?), gate_simulation
(what does the gate catch?), comparing (two tables by anybody), sample_size and design_verb (how
large should the next run be?), halving, halving_rows and halving_text (which setting does a search
choose?), group_sequential (looks while data come in), command.
Beside dominance: ranks (of operating points, with ties).
"""
