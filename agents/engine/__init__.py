"""The engine under every method: inner loop, gradient step, outer step, stacked seeds."""
