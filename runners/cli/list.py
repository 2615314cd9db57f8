"""The command `fsl list`."""

from __future__ import annotations

from pathlib import Path

from fewshot_env.errors import command
from runners.cli.options import DataDir, Json
from runners.console.output import columns, cut, output


def list_(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the environments, the agents, and which data sets are ready."""
    with output(as_json) as emit:
        from agents.registry import AGENTS
        from agents.registry import load_plugins as load_agents
        from fewshot_env.datasets import known_datasets
        from fewshot_env.registry import ENVS, register_prepared
        from fewshot_env.registry import load_plugins as load_envs
        from fewshot_env.store import data_dir as store_dir
        from fewshot_env.store import is_prepared

        load_envs()
        load_agents()
        register_prepared(data_dir)
        folder, known = store_dir(data_dir), known_datasets()
        ready = {name: name not in known or is_prepared(folder / name) for name in ENVS}
        envs = [{"name": e.name, "id": e.id, "ready": ready[e.name], "summary": e.summary} for e in ENVS.values()]
        agents = [{"name": a.name, "class": a.where, "summary": a.summary} for a in AGENTS.values()]
        width = max(map(len, [*ENVS, *AGENTS]))
        lines = [cut("environments (SOURCE->TARGET, in quotes, is a pair; NAME+NAME a mixture)")]
        rows = [(f"{e.name:<{width}}", "ready" if ready[e.name] else "no data", e.summary) for e in ENVS.values()]
        lines += [cut(columns(rows))]
        if not all(ready.values()):
            where: list[str | Path] = [] if data_dir is None else ["--data-dir", data_dir]
            lines += [f"  no data: {command('fsl', 'data', 'list', *where)} says how to get it"]
        lines += ["agents", cut(columns([(f"{a.name:<{width}}", a.summary) for a in AGENTS.values()]))]
        emit({"data_dir": str(folder), "environments": envs, "agents": agents}, "\n".join(lines))
