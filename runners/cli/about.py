"""What `fsl` itself is asked: its version."""

from __future__ import annotations

from typing import Annotated

import typer


def _show(wanted: bool) -> None:
    if wanted:
        from runners.config.plan import versions

        print(", ".join(f"{name} {number}" for name, number in versions().items()))
        raise typer.Exit


def about(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show, is_eager=True, help="Show the versions that a result depends on."),
    ] = False,
) -> None:
    """Few-shot task environments and meta-learning agents."""
