"""The runner: `fsl` pairs agents with environments, trains, evaluates and logs; `runners.run` does it from Python."""

from runners.api import Finished, evaluate, load, run

__all__ = ["Finished", "evaluate", "load", "run"]
