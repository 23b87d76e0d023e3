"""What the paper claims, against what was measured here (`python -m benchmarks.evidence`).

Reading order: commands (the runs), claim_measures and verdicts, claims_front, claims_parts and
claims_seen (a claim and its rule each), ledger and all_claims, judged, validity and
measure_validity (CLIP and the other measures against the truth), measure_differences, coverage (of
intervals), claims_page with forest (its picture), primary_claims (of the confirmatory run) and
one_world (of all that is read), results_page with resting and committed (results/README.md),
readme_table (README.md); miniature_verify with miniature_measures, segmenter_measures,
marks_measures, miniature_gates and miniature_labels (do the miniature's models draw what prompts
say?), miniature_difficulty (how hard are the shipped concepts?), command.
The confirmatory run: confirm_plan (what is decided before it), confirm_ledger (what was there when
it began, and which concepts are whole), confirm_measures, confirm_looks (a claim at a look),
confirm_page, confirm (`python -m benchmarks.evidence.confirm`); behind it order (with the other
text encoder) and why (another method draws a concept more alike).
The trial of names: names_rule (when they are kept), names_pictures (what they draw), names_trial
(`python -m benchmarks.evidence.names_trial`).
Two text encoders: joint_trial (zeros and pooled text, drawn otherwise).
"""

LOOKED, LOOKED_CELLS = "looked.csv", "looked-cells.csv"  # in a run folder, what judged.py wrote
