"""What is asked about: prompts, concepts, photographs, other people's suites.

Reading order: concept_folder (one concept on disk), catalog (all prompts and concepts), image_files
(files to pixels), importers with importer_parts, graded_suites and generated (other suites),
columns (what tables are split by), drift_kinds and drift_prompts (what has nothing to do with a
concept), photographs with download (the paper's own things),
dataset_rows (hub data sets), concept_masks and mask_making (which pixels are the thing),
catalog_problems with clip_tokens, concept_actions, command.
"""
