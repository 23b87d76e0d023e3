"""Doing it: a plan in, a filled run folder out.

Reading order: prepared (what is asked), beforehand, known_seconds and familiar (how long, is it
meant, can it be learned), run (prepare, work, finish), tasks (what travels), driver and engines
with ray_pool (who does what), worker with applied, worker_devices, worker_scores and batch_probe
(doing it), shared_units (or taking what an earlier run did), known_features
(what scorers saw before), subject_scores (the thing alone), missing_rows, forecast, time_left and
progress; given_files (`--trained`) with trained_kinds, tune, rescore (`score`) with
scorers_beforehand and judged_cells (judges), ratings_file and rated_run (`score --from`), measure,
one_fit; listing (`ls`), doctor, flags, command and fit_command; random_models, timed_jobs,
timed_tables, timed_versions and paper_cost (for speed.py); gpu_day with day_cost, day_stages,
day_folder, day_facts and day_archive (`gpu-day`).
Beside prepared: refusals (what a backbone's kind has no place for).
Beside tune: trial_settings and tune_halving (`tune --halving`).
Beside worker: peak_memory and drawing_costs (what it measures of costs).
Beside run: whole_concepts (what is finished while it goes on).
Beside driver: training_log and trackers (`--log`: who is told what happens).
"""
