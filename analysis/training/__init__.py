"""Training of the mini models: tokenizer, network, batches, losses, optimizers, stages, checkpoints, scores."""
