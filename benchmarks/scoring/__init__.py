"""Pictures in, scores out.

Reading order: lookup (a scorer by name, and what its bytes are called) with modern (those of
today), scorers (the models), clip_folder and clip_networks (an open_clip model in a folder, opened
without that library), reserved (methods with a meaning of their own), cell_row (what is scored),
read_pictures (decoded once, by digest), measures (what is measured beyond the two scores),
similarity (all of a cell), subject_alone (the thing cut out), drift_scores (what a concept does to
everything else), truth (the miniature's judges as a scorer); judge (a model behind an address) with
calls (how many), judge_question (what is asked) and chat_endpoint (how).
"""
