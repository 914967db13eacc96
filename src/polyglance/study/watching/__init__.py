"""Progress of a study while it runs, and its live page."""
