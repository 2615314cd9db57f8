"""Output on stdout and stderr, and progress."""
