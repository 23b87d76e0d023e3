"""Results of other people: one archive a run, checked before anything in it is believed.

Reading order: submission_archive (what may lie in one, read within limits), submission_make (a run
as an archive), drawn_pixels (digests and thumbnails of its pictures), known_here (scorers, texts
and protocols that this version has), submitted_vae (one beside its backbone), submitted_rows (what
is wrong with its plan and rows), submitted_tables (made again from rows), checked_submission (all
of that), redraw (a random sample, drawn again) with redraw_limits, submission_verify (the verdict),
submission_command (the verb). docs/submit.md says how to send one.
"""
