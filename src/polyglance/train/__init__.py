"""From batches to a trained model: the loop, the step, the optimiser, checkpoints and the record of a run."""
