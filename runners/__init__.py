"""The runner: `fsl` pairs agents with environments, trains, evaluates and logs; `runners.run` does it from Python."""

from runners.api import Finished, load, run, test

__all__ = ["Finished", "load", "run", "test"]
