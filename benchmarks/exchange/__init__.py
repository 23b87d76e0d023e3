"""What other people's tools made comes in, and what was made here goes out to theirs.

Reading order: command.
"""
