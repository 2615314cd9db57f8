"""The runner: `fsl` pairs agents with environments, trains, evaluates and logs; `runners.run` does it from Python."""

from runners.api import Finished, evaluate, load, predict, run

__all__ = ["Finished", "evaluate", "load", "predict", "run"]
