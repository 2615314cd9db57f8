"""The command `fsl replay`: compute a saved episode again and show where a number stops being finite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runners.cli.options import Agent, Network


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An episode that a run saved: RUN/faults/*.pt.")],
    agent: Agent = None,
    network: Network = None,
) -> None:
    """Compute a saved non-finite episode again, number by number, and name the first NaN or infinity."""
    from runners.evaluation.non_finite import first_non_finite, replay

    title, numbers = replay(file, (agent, network))
    first = first_non_finite(numbers)
    print(title)
    width = max(len(number.name) for number in numbers)
    for number in numbers:
        note = "  <- the first that is not finite" if number.name == first else ""
        print(f"  {number.name:<{width}}  {number.value:.6g}{note}")
    print("for arrays, the largest magnitude is shown" if first else "all numbers are finite")
