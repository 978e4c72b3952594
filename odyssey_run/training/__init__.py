"""From a checked request to trained weights: what is built, the training loop, checkpoints and hooks."""
