"""Few-shot task environments: `import fewshot_env` registers `FewShot/Sine-v0` and its kin in Gymnasium."""

from fewshot_env import forked as _forked  # noqa: F401  before any worker is forked
from fewshot_env.errors import FewShotError
from fewshot_env.registry import ENVS, EnvEntry, register

__all__ = ["ENVS", "EnvEntry", "FewShotError", "register"]
