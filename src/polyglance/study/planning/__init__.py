"""Expected costs of a study, and its simulation on a cluster."""
