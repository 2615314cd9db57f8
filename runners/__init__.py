"""The runner: `fsl` pairs agents with environments, trains, evaluates and logs."""
