"""The command `fsl export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runners.cli.options import Agent, AgentSettings, Background, Json, Network, Quiet, TrainedFile, Verbose
from runners.console.output import output


def export(
    run: TrainedFile,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help=".safetensors: the trained agent, for fsl predict, fsl eval and agents.load. .onnx, .pt2: with "
            "--support, a classifier for other programs.",
        ),
    ],
    support: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder with a folder of a few labelled images for each class."),
    ] = None,
    background: Background = "white",
    set_: AgentSettings = None,
    agent: Agent = None,
    network: Network = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a trained agent as one file, or a classifier that it makes from a few labelled images."""
    from runners.config.settings import read_pairs
    from runners.prediction.command import agent_settings
    from runners.prediction.export import export as write
    from runners.prediction.trained import Trained

    with output(as_json, quiet, verbose) as emit:
        settings = agent_settings(read_pairs(set_ or []))
        written = write(Trained.open(run, agent, network), out, support, settings, background)
        lines = [f"{written['file']}: {written['format']}, {written['bytes'] / 1e6:.1f} MB"]
        if "classes" in written:
            lines += [
                f"input images [n, 3, {written['size']}, {written['size']}], RGB in [0, 1]; output probabilities of "
                + ", ".join(written["classes"]),
                *written["notes"],
                *(f"not used: {file} ({reason})" for file, reason in written["unreadable"].items()),
            ]
        emit(written, "\n".join(lines))
