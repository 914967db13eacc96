"""Tables of runs: files, numbers as people write them, computed columns."""
