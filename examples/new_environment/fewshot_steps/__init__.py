"""Steps, an environment for fewshot: `fsl` finds the entry through pyproject.toml."""

from fewshot_env import EnvEntry

ENTRY = EnvEntry("steps", "FewShot/Steps-v0", "fewshot_steps.sampler:Steps", "a step between two levels, 5-shot")
