"""Shell completion of names. Nothing heavy is imported: it answers at every press of the tab key."""

from __future__ import annotations

import os

Words = list[tuple[str, str]]


def environments(incomplete: str) -> Words:
    """Environments by name, and pairs where an arrow or a quote is begun."""
    from fewshot_env.registry import ENVS, load_plugins

    load_plugins()
    word = _as_typed()
    quoted = word.startswith(("'", '"'))
    arrow = next((a for a in ("->", "→", ":") if a in incomplete), "->")
    if not quoted and arrow == "->" and "COMP_WORDS" in os.environ:  # bash would insert a bare >; the others quote it
        arrow = ""
    wanted = quoted or incomplete.rstrip("-") != incomplete or arrow in incomplete
    pairs = [(f"{s}{arrow}{t}", f"train on {s}, test on {t}") for s in ENVS for t in ENVS if s != t]
    return [(name, entry.summary) for name, entry in ENVS.items()] + (pairs if arrow and wanted else [])


def agents(incomplete: str) -> Words:
    """Agents by name."""
    from agents.registry import AGENTS, load_plugins

    load_plugins()
    return [(spec.name, spec.summary) for spec in AGENTS.values()]


def names(incomplete: str) -> Words:
    """What `fsl show` explains: agents, environments, a run."""
    from fewshot_env.registry import ENVS

    return [*agents(""), *[(name, entry.summary) for name, entry in ENVS.items()], ("run", "the settings of a run")]


def _as_typed() -> str:
    """The unfinished word with its quote, as the shell's completion script hands it over."""
    if "COMP_WORDS" in os.environ:
        return os.environ["COMP_WORDS"].split("\n")[int(os.environ["COMP_CWORD"])]
    return os.environ.get("_TYPER_COMPLETE_ARGS", "").rpartition(" ")[2]
