"""A run folder: where things lie in it, and how they get there whole.

Reading order: run_folder (paths, publishing, reading), csv_files (rows and plans as text), run_json
(what was run). docs/run-folder.md is the contract.
"""
