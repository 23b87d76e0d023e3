"""What a word attends to: measured, kept, drawn."""
