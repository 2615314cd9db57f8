"""Prototypical networks, an agent for fewshot: `fsl` finds it through pyproject.toml."""
