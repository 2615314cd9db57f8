"""Training: one run from start to result, several seeds, estimates and benchmarks."""
