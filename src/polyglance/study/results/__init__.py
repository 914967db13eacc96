"""Results of a study: table, predictions, laws and report."""
