"""A leaderboard as a static page: runs and submissions, compared where they were measured alike.

Reading order: entries (what stands on it, and on which board), board_rows (one row an operating
point: ranks, costs, where to look), board_page (the page, its figures and its JSON),
board_command (the verb).
"""
