"""`fsl report`: one page about a finished run, complete in itself: opened offline, light or dark, wide or narrow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fewshot_env.errors import FewShotError
from runners.evaluation.evaluate import in_words
from runners.loggers.base import read_rows
from runners.reporting.report_figures import learned, learning, looks, test
from runners.storage.run_folder import members, write_text
from runners.storage.schemas import read_result


def write(folder: Path, file: Path | None = None) -> Path:
    """Write the report of a run; returns the file. Raises FewShotError where the run is not finished, or is several."""
    several = members(folder)
    if len(several) > 1:
        raise FewShotError(f"{folder} holds {len(several)} runs; name one of them, for example {several[0]}")
    result = read_result(folder)
    file = file or folder / "report.html"
    page = render(folder, result)
    try:
        write_text(file, page)
    except OSError as error:
        raise FewShotError(f"{file} can not be written ({error.strerror or error}); choose another --out") from error
    return file


def render(folder: Path, result: dict[str, Any]) -> str:
    """The page as text."""
    from jinja2 import Environment

    sections = [learning(read_rows(folder), result), test(result)]
    try:
        sections += looks(folder)
    except FewShotError as error:  # a run whose data, or package, is not on this machine
        sections.append(("Episodes", f"Not shown: {error}", []))
    sections.append(learned(folder))
    template = Environment(autoescape=True).from_string((Path(__file__).parent / "report.html").read_text())
    text: str = template.render(
        title=f"{result['agent']} on {result['env']}",
        headline=in_words(result),
        facts=[
            f"Run {folder.resolve().name}: {result['trained_tasks']} training tasks; the weights after "
            f"{result['best_at_tasks']} were tested: the best in validation, or the last where none was finite.",
            f"Test episodes {result['episode_hash']}; every run with this mark met the same {result['tasks']} tasks.",
        ],
        sections=[section for section in sections if section[1] or section[2]],
        settings={key: json.dumps(value) for key, value in result["settings"].items()},
        versions=", ".join(f"{name} {version}" for name, version in result["versions"].items()),
    )
    return text
