"""Linear discriminant analysis on learned features, an agent for fewshot: `fsl` finds it through pyproject.toml."""
