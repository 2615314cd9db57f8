"""The command `fsl predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runners.cli.options import Agent, AgentSettings, Background, Device, Json, Network, Quiet, TrainedFile, Verbose
from runners.console.output import log, output


def predict(
    run: TrainedFile,
    support: Annotated[
        Path, typer.Option(metavar="DIR", help="A folder with a folder of a few labelled images for each class.")
    ],
    images: Annotated[
        list[str],
        typer.Option(metavar="PATH", help="New images: files or folders; several, or the option several times."),
    ],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGE]...", help="More images, so that --images *.jpg works.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A CSV: file, predicted class, probability of every class.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A page: thumbnails by predicted class, unsure ones marked.")
    ] = None,
    transductive: Annotated[
        bool,
        typer.Option(
            "--transductive",
            help="Normalize over all images of this call together: often better where all classes are among them, but "
            "an answer then depends on the others.",
        ),
    ] = False,
    background: Background = "white",
    set_: AgentSettings = None,
    agent: Agent = None,
    network: Network = None,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Classify new images with a trained agent, from a few labelled ones of each class."""
    from fewshot_env.errors import FewShotError
    from runners.config.settings import read_pairs
    from runners.prediction.command import agent_settings, in_words, predict_and_write

    with output(as_json, quiet, verbose) as emit:
        settings = agent_settings(read_pairs(set_ or []))
        places = [*images, *(more or [])]
        if "" in places:
            raise FewShotError("--images is empty; name files or folders of images")
        found = predict_and_write(
            run,
            support,
            [Path(place) for place in places],
            out,
            html,
            transductive,
            device,
            background,
            settings,
            agent,
            network,
        )
        for file, reason in found.left_out.items():
            log.warning(f"fsl: left out of the support: {file} ({reason})")
        for file, reason in found.unreadable.items():
            log.warning(f"fsl: not answered: {file} ({reason})")
        emit(found.as_json(), in_words(found, listed=out is None and html is None))
        for written in (out, html):
            if written is not None:
                log.info(f"written to {written}")
