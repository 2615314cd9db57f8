"""Settings and the resolved plan of a run."""
