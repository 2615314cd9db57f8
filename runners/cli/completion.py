"""Shell completion of names. It runs at every press of the tab key, so nothing heavy is imported."""

from __future__ import annotations

import os

Completions = list[tuple[str, str]]
"""Names with a line of help for each."""


def environments(incomplete: str) -> Completions:
    """Environments by name, and pairs where an arrow or a quote is begun."""
    from fewshot_env.registry import ENVS, load_plugins

    load_plugins()
    word = _unfinished_word()
    quoted = word.startswith(("'", '"'))
    arrow = next((a for a in ("->", "→", ":") if a in incomplete), "->")
    if not quoted and arrow == "->" and "COMP_WORDS" in os.environ:  # bash would insert a bare >; the others quote it
        arrow = ""
    wanted = quoted or incomplete.rstrip("-") != incomplete or arrow in incomplete
    pairs = [(f"{s}{arrow}{t}", f"train on {s}, test on {t}") for s in ENVS for t in ENVS if s != t]
    return [(name, entry.summary) for name, entry in ENVS.items()] + (pairs if arrow and wanted else [])


def agents(incomplete: str) -> Completions:
    """Agents by name."""
    from agents.registry import AGENTS, load_plugins

    load_plugins()
    return [(spec.name, spec.summary) for spec in AGENTS.values()]


def names(incomplete: str) -> Completions:
    """What `fsl show` describes: agents, environments, and a run's settings."""
    from fewshot_env.registry import ENVS

    return [*agents(""), *[(name, entry.summary) for name, entry in ENVS.items()], ("run", "the settings of a run")]


def _unfinished_word() -> str:
    """The word that is being typed, with its quote, as the shell's completion script passes it."""
    if "COMP_WORDS" in os.environ:
        return os.environ["COMP_WORDS"].split("\n")[int(os.environ["COMP_CWORD"])]
    return os.environ.get("_TYPER_COMPLETE_ARGS", "").rpartition(" ")[2]
