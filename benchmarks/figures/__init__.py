"""What people look at: figures, attention maps, the report."""
