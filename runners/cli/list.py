"""The commands `fsl list` and `fsl show`: what there is, and every setting of it."""

from __future__ import annotations

from typing import Annotated

import typer

from runners.cli import completion as complete
from runners.cli.options import DataDir, Json
from runners.console.output import columns, cut, voice


def list_(data_dir: DataDir = None, as_json: Json = False) -> None:
    """The environments, the agents, and which data are ready."""
    with voice(as_json) as tell:
        from agents.registry import AGENTS
        from agents.registry import load_plugins as load_agents
        from fewshot_env.datasets import DATASETS
        from fewshot_env.registry import ENVS, register_prepared
        from fewshot_env.registry import load_plugins as load_envs
        from fewshot_env.store import data_dir as store_dir
        from fewshot_env.store import is_prepared

        load_envs()
        load_agents()
        register_prepared(data_dir)
        folder = store_dir(data_dir)
        ready = {name: name not in DATASETS or is_prepared(folder / name) for name in ENVS}
        envs = [{"name": e.name, "id": e.id, "ready": ready[e.name], "summary": e.summary} for e in ENVS.values()]
        agents = [{"name": a.name, "class": a.where, "summary": a.summary} for a in AGENTS.values()]
        width = max(map(len, [*ENVS, *AGENTS]))
        lines = ["environments (join two as 'SOURCE->TARGET', mix them as NAME+NAME)"]
        rows = [(f"{e.name:<{width}}", "ready" if ready[e.name] else "no data", e.summary) for e in ENVS.values()]
        lines += [columns(rows)]
        if not all(ready.values()):
            lines += ["  no data: fsl data list says how to get it"]
        lines += ["agents", columns([(f"{a.name:<{width}}", a.summary) for a in AGENTS.values()])]
        tell({"data_dir": str(folder), "environments": envs, "agents": agents}, cut("\n".join(lines)))


def show(
    name: Annotated[
        str,
        typer.Argument(
            help="An agent or environment (see fsl list), my_module:MyAgent, or run.", autocompletion=complete.names
        ),
    ],
    as_json: Json = False,
) -> None:
    """Every setting of an agent, an environment or a run, with its default and what it means."""
    with voice(as_json) as tell:
        from runners.cli import describe

        found = describe.of(name)
        tell(found, describe.in_words(found))
