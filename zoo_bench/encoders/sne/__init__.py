"""SNE, the set-based neural network encoder: chunks of weights, sets of chunks, sets of tensors, sets of layers."""
