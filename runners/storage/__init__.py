"""The run folder: checkpoints, lock, and the schemas of its files."""
