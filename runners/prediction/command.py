"""What `fsl predict` and `runners.predict` do: read, predict, write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fewshot_env.errors import FewShotError
from runners.config.machine import usable_device
from runners.console.progress import progress
from runners.prediction.page import MOST_SUPPORT, Thumbnails, render
from runners.prediction.predict import predict
from runners.prediction.predictions import Predictions
from runners.prediction.trained import Trained
from runners.storage.run_folder import write_text


def agent_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings `agent.NAME` without their prefix; raises FewShotError for others, which mean nothing here."""
    for key in settings:
        if not key.startswith("agent."):
            raise FewShotError(
                f"{key} is no setting of the agent; only those can change here (fsl show NAME lists them)"
            )
    return {key.removeprefix("agent."): value for key, value in settings.items()}


def predict_and_write(
    source: Path,
    support: Path,
    images: Sequence[Path],
    out: Path | None,
    html: Path | None,
    transductive: bool,
    device: str,
    background: str,
    settings: Mapping[str, Any],
    agent: str | None,
    network: str | None,
) -> Predictions:
    """Predict, and write the CSV and the page where their files are given; see `runners.predict`."""
    for option, file, endings in (("--out", out, (".csv",)), ("--html", html, (".html", ".htm"))):
        if file is not None:
            _verify_target(option, file, endings)
    trained = Trained.open(source, agent, network)
    small, of_support = Thumbnails(), {}
    if html is not None and support.is_dir():
        of_support = {place.name: Thumbnails(MOST_SUPPORT) for place in support.iterdir() if place.is_dir()}

    def shown(parts: Iterable[Any], total: int) -> Iterable[Any]:
        done = 0
        with progress("predicting", total, "images") as report:
            for part in parts:
                done += len(part[0])
                report(done, "")
                yield part

    found = predict(
        trained, support, images, transductive, usable_device(device), background, settings, shown, of_support,
        *([small] if html is not None else []),
    )  # fmt: skip
    page = None if html is None else render(found, f"Predictions of {source.name}", small, of_support)
    texts = {
        file: text for file, text in ((out, found.as_csv()), (html, page)) if file is not None and text is not None
    }
    new = [file for file in texts if not file.exists()]
    try:
        for file, text in texts.items():
            write_text(file, text)
    except OSError as error:
        for file in new:
            file.unlink(missing_ok=True)
        raise FewShotError(f"{error.filename} cannot be written ({error.strerror}); choose another file") from error
    return found


def _verify_target(option: str, file: Path, endings: tuple[str, ...]) -> None:
    """Raise FewShotError where a file of this name would surprise, or cannot be."""
    if file.suffix.lower() not in endings:
        raise FewShotError(f"{option} is {file}, but must end in {' or '.join(endings)}")
    if file.is_dir():
        raise FewShotError(f"{option} is the folder {file}; name a file")
    if not file.absolute().parent.is_dir():
        raise FewShotError(f"there is no folder {file.absolute().parent} to write {file.name} into; make it")


def in_words(found: Predictions, listed: bool) -> str:
    """A line for each image if `listed`, the number of images of each class, and how it was done."""
    counts = Counter(p.predicted for p in found.predictions)
    unsure = sum(p.unsure for p in found.predictions)
    n = len(found.predictions)
    summary = f"{n} image{'s' * (n != 1)}: " + ", ".join(f"{counts[name]} {name}" for name in found.classes)
    summary += f"; {unsure} unsure" + (f"; {len(found.unreadable)} not answered" if found.unreadable else "")
    rows = [
        f"{p.file}: {p.predicted} ({p.confidence:.2f}{', unsure' if p.unsure else ''})"
        for p in found.predictions
        if listed
    ]
    return "\n".join([*rows, summary, *found.notes])
