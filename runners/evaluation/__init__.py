"""Evaluation on frozen episodes, results and their statistics."""
