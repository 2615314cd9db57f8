"""Where a run's numbers and pictures go."""

from runners.loggers.base import Logger

__all__ = ["Logger"]
