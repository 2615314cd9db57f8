"""`fsl report`: one HTML page about a finished run, without external files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fewshot_env.errors import FewShotError
from runners.evaluation.evaluate import in_words
from runners.loggers.json_lines import read_rows
from runners.reporting.report_figures import adaptation, learned, learning, test_scores
from runners.storage.run_folder import members, write_text
from runners.storage.schemas import read_result


def write(folder: Path, file: Path | None = None, named: Iterable[str | None] = ()) -> Path:
    """Write the report of one finished run and return its file.

    Args:
        folder: the run's folder.
        file: where to write; report.html in the folder by default.
        named: classes of the caller's own that the run may name (module:Class).

    Raises:
        FewShotError: where the run is not finished, `folder` holds several, or the file cannot be written.
    """
    several = members(folder)
    if len(several) > 1:
        raise FewShotError(f"{folder} holds {len(several)} runs; name one of them, for example {several[0]}")
    result = read_result(folder)
    file = file or folder / "report.html"
    page = render(folder, result, named)
    try:
        write_text(file, page)
    except OSError as error:
        raise FewShotError(f"{file} cannot be written ({error.strerror or error}); choose another --out") from error
    return file


def render(folder: Path, result: dict[str, Any], named: Iterable[str | None] = ()) -> str:
    """The page as text."""
    from jinja2 import Environment

    sections = [learning(read_rows(folder), result), test_scores(result)]
    try:
        sections += adaptation(folder, named)
    except FewShotError as error:  # a run whose data, or package, is not on this machine
        sections.append(("Episodes", f"Not shown: {error}", []))
    sections.append(learned(folder))
    template = Environment(autoescape=True).from_string((Path(__file__).parent / "report.html").read_text())
    text: str = template.render(
        title=f"{result['agent']} on {result['env']}",
        headline=in_words(result),
        facts=[
            f"Run {folder.resolve().name}: {result['trained_tasks']} training tasks; tested with the weights after "
            f"{result['best_at_tasks']}, which were best in validation (the last ones if no validation was finite).",
            f"Episode hash {result['episode_hash']}: runs with this hash share the same {result['tasks']} test tasks.",
        ],
        sections=[section for section in sections if section[1] or section[2]],
        settings={key: json.dumps(value) for key, value in result["settings"].items()},
        versions=", ".join(f"{name} {version}" for name, version in result["versions"].items()),
    )
    return text
