"""Synthetic data sets: images drawn in code, with nothing to download and classes that people can distinguish."""
