"""Numbers from rows: means, intervals, tables, and the regression gate."""
