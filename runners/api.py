"""The Python face of the command line: `runners.run`, `runners.test` and `runners.load`.

Settings are those of `--set`, as a mapping: `{"train_tasks": 500, "agent.inner_lr": 0.02}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.base import Agent


@dataclass(frozen=True)
class Finished:
    """A finished run: its folder, and what result.json holds (mean, ci95, scores, settings, episode_hash, ...)."""

    folder: Path
    result: dict[str, Any]


def run(
    env: str,
    agent: str | type[Agent],
    settings: Mapping[str, Any] = MappingProxyType({}),
    preset: str = "paper",
    log_dir: str | Path = "runs",
) -> Finished:
    """Train an agent on an environment and test it, as `fsl run` does; everything is logged to a new folder.

    env: NAME or "SOURCE->TARGET"; agent: a name, "module:Class", or a class derived from agents.base.Agent.
    Raises FewShotError, before anything is written, where the command would refuse; KeyboardInterrupt where the
    run was interrupted (what it printed says how to continue).
    """
    import typer

    from runners.training import launcher as carry_out

    name = agent if isinstance(agent, str) else f"{agent.__module__}:{agent.__qualname__}"
    try:
        (folder,) = carry_out.begin({**settings, "env": env, "agent": name}, preset, Path(log_dir), 1, 1)
    except typer.Exit:
        raise KeyboardInterrupt from None
    from runners.storage.schemas import read_result

    return Finished(folder, read_result(folder))


def test(  # no pytest function
    folder: str | Path,
    env: str | None = None,  # noqa: PT028
    settings: Mapping[str, Any] = MappingProxyType({}),  # noqa: PT028
) -> dict[str, Any]:
    """Test a run's best weights on frozen episodes of `env` (default: its own target), as `fsl eval` does.

    settings: what differs from the run's, for example `{"env.n_shot": 5}`. Returns the result, which is also
    written into the run's folder; raises FewShotError where the weights do not fit.
    """
    from runners.evaluation.retest import retest

    return retest(Path(folder), env, dict(settings))[0]


def load(folder: str | Path) -> Agent:
    """The agent of a run with its best weights, in eval mode; raises FewShotError where there are none."""
    from runners.config.plan import make_plan
    from runners.evaluation.retest import best_agent
    from runners.storage.schemas import read_settings

    agent, _ = best_agent(make_plan(read_settings(Path(folder))), Path(folder))
    return agent
