"""What other people's tools made comes in, and what was made here goes out to theirs.

Reading order: command. Pictures: importing (the whole of an import), listed_pictures (what was
given), import_questions (what it may be of), import_check (what is wrong with it), import_folder
(where it goes), import_plan (which cells it makes). Adapters: adapters (which files, as methods),
evaluate (drawn, scored), which_to_keep (the statistics), evaluation_page (what people read).
Concepts: exporting with gate_captions (texts that a gate is fitted to), static_concept (the gate
made linear), lora_files (what other programs open) and export_compare. Hub: parcel (what may be
sent), file_scores, card_pictures, model_card, hub_repository (what is there), push, push_fit (of
`fit --push`). Data sets: publishing (the whole of it), run_dataset (the tables), parquet_files,
plain_png, licences, leaks (what is never published), data_card. Results of others: submissions/
(archives and their check), board/ (who is ahead).
"""
