"""A run folder: where things lie in it, and how they get there whole.

Reading order: run_folder (paths, publishing), reading (runs, rows and plans) with older_runs,
csv_files and frame_text (rows and plans as text), packed and packing (a run that is committed),
run_json (what was run), unit_cache (what runs share) with cache_verbs and command (`perfbench
cache`), cleaning (`perfbench clean`).
fit_costs says what a fit.json tells of costs.
docs/run-folder.md is the contract.
"""
