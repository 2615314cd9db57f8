"""Several processes that share every meta-batch, and stopping them together."""
