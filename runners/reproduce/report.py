"""Report: an experiment as Markdown, LaTeX, JSON and (figures) pictures; every artefact says at what scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runners.reproduce import paper
from runners.reproduce.checks import Verdict
from runners.reproduce.claims import check
from runners.reproduce.data import holdings
from runners.reproduce.earlier import Earlier
from runners.reproduce.grid import Experiment, Scale
from runners.reproduce.plot import draw
from runners.reproduce.runs import Runs
from runners.reproduce.statistics import PAPER, PUBLISHED, apart
from runners.reproduce.summary import Summaries, Summary, each_once, estimate, mean, numbers
from runners.storage.run_folder import write_json, write_text

HEAD = ("agent", "setting", "runs", "diverged tasks", "median ± 95 %", "published statistic", "beside", "meet")
HOURS = "hours a run"
"""A column more, where an experiment is about time."""


def write(experiment: Experiment, scale: Scale, found: Summaries, runs: Runs, earlier: Earlier) -> Path:
    """Write an experiment's artefacts below the runs' folder; returns the Markdown file."""
    name = experiment.name if scale.name == "full" else f"{experiment.name}-{scale.name}"
    stem = runs.out / name
    verdicts = check(experiment.name, found)
    pictures = [stem.with_name(f"{name}.{suffix}") for suffix in ("png", "svg")] if experiment.kind == "figure" else []
    if pictures:
        draw(experiment, found, _runs_words(scale, found), pictures)
    rows = [_row(experiment, summary) for summary in found.values()]
    held = holdings(experiment, runs.data_dir)
    command = f"fsl reproduce {experiment.name} --scale {scale.name}"
    command += "".join(f" --with {file.name}" for file in earlier.files)
    page = _markdown(experiment, scale, found, rows, verdicts, pictures, held, command)
    write_text(stem.with_name(f"{name}.md"), page)
    write_text(stem.with_name(f"{name}.tex"), _latex(experiment, _runs_words(scale, found), rows))
    write_json(stem.with_name(f"{name}.json"), _machine_readable(experiment, scale, found, verdicts, held))
    return stem.with_name(f"{name}.md")


def _runs_words(scale: Scale, found: Summaries) -> str:
    """The scale, and how many of the runs are there."""
    have, wanted = sum(len(s.scores) for s in found.values()), sum(s.wanted for s in found.values())
    return scale.words + ("" if have == wanted else f"; INCOMPLETE: {have} of {wanted} runs are finished")


def meets(summary: Summary) -> bool | None:
    """Whether our interval and the reference's, widened by its rounding, meet; None where one is missing."""
    beside = paper.reference(summary.experiment.name, summary.cell.row, summary.cell.column)
    if beside is None or summary.paper is None:
        return None
    clear = apart(summary.paper, beside.widened)
    return None if clear is None else not clear


def _head(experiment: Experiment) -> Sequence[str]:
    return (*HEAD, HOURS) if experiment.timed else HEAD


def _row(experiment: Experiment, summary: Summary) -> list[str]:
    beside = paper.reference(experiment.name, summary.cell.row, summary.cell.column)
    of = "" if len(summary.scores) == summary.wanted else f" of {summary.wanted}"
    hours = mean(summary.hours)
    timed = [] if not experiment.timed else ["" if hours is None else f"{hours:.3g}"]
    return [
        summary.cell.row,
        summary.cell.column,
        f"{len(summary.scores)}{of}",
        str(summary.diverged) if summary.scores else "",
        str(summary.paper or "not run"),
        str(summary.published or ""),
        "" if beside is None else str(beside.estimate),
        {True: "yes", False: "no", None: ""}[meets(summary)],
        *timed,
    ]


def _markdown(
    experiment: Experiment,
    scale: Scale,
    found: Summaries,
    rows: Sequence[Sequence[str]],
    verdicts: Sequence[Verdict],
    pictures: Sequence[Path],
    held: Sequence[str],
    command: str,
) -> str:
    metric = {"mse": "mean squared error", "accuracy": "accuracy"}[experiment.metric]
    what = "best validation" if experiment.score == "validation" else "test"
    hours = [h for summary in found.values() for h in summary.hours]
    earlier = sum(summary.earlier for summary in found.values())
    hashes, devices = each_once(found, "episodes"), each_once(found, "device")
    parts = [
        f"# {experiment.title}",
        f"{_runs_words(scale, found)}. Score: {metric} of the {what}, {_direction(experiment.metric)}.",
        *["Data: " + ". ".join(held) + "."] * bool(held),
        *[f"![{experiment.title}]({p.name})" for p in pictures[:1]],
        "\n".join(_table([_head(experiment), *rows])),
        "\n".join(
            [
                f"- **median ± 95 %**: {PAPER} (each run's number is its mean over tasks), as the paper states it.",
                f"- **published statistic**: {PUBLISHED[experiment.score]}; as the published implementation did.",
                f"- **beside**: {paper.SOURCES[experiment.name]}.",
                "- **meet**: whether the interval beside (widened by its rounding) and our median's meet.",
                "- **diverged tasks**: scores that are not finite, or squared errors above 100.",
            ]
        ),
        "## What the paper says of it",
        *(
            ["At this scale, a verdict says how far such short trainings get, and nothing of the paper."]
            * bool(scale.settings)
        ),
        "\n".join(_table([("claim", "verdict", "evidence"), *[(v.claim, v.words, v.evidence) for v in verdicts]])),
        "*Undecided*: runs are missing, or their intervals are too wide to tell.",
        f"Made with `{command}`"
        + "".join(f"; {words}" for words in each_once(found, "versions"))
        + (f"; test episodes {', '.join(hashes)}" if hashes else "")
        + (f"; {earlier} runs as earlier reports counted them" if earlier else "")
        + (f"; {sum(hours):.3g} hours for the {len(hours)} runs that recorded their time" if hours else "")
        + (f", on {' and '.join(devices)}" if devices else "")
        + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _direction(metric: str) -> str:
    return "higher is better" if metric == "accuracy" else "lower is better"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]


def _latex(experiment: Experiment, note: str, rows: Sequence[Sequence[str]]) -> str:
    lines = [" & ".join(map(_escape, row)) + r" \\" for row in (_head(experiment), *rows)]
    return "\n".join(
        [
            f"% {note}",
            "% needs \\usepackage{booktabs,longtable}",
            rf"\begin{{longtable}}{{llrrllll{'r' * experiment.timed}}}",
            rf"\caption{{{_escape(experiment.title)}. {_escape(note)}.}}\\",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{longtable}",
            "",
        ]
    )


def _escape(text: str) -> str:
    for plain, tex in (("%", r"\%"), ("±", r"$\pm$"), ("→", r"$\to$"), ("_", r"\_"), ("&", r"\&")):
        text = text.replace(plain, tex)
    return text


def _machine_readable(
    experiment: Experiment, scale: Scale, found: Summaries, verdicts: Sequence[Verdict], held: Sequence[str]
) -> dict[str, Any]:
    cells = []
    for summary in found.values():
        beside = paper.reference(experiment.name, summary.cell.row, summary.cell.column)
        cells.append(
            numbers(summary)
            | {"beside": None if beside is None else estimate(beside.estimate), "meets": meets(summary)}
        )
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "scale": scale.name,
        "scale_in_words": _runs_words(scale, found),
        "scale_settings": dict(scale.settings),
        "metric": experiment.metric,
        "data": list(held),
        "statistics": {"paper": PAPER, "published": PUBLISHED[experiment.score], "score": experiment.score},
        "beside": paper.SOURCES[experiment.name],
        "cells": cells,
        "claims": [{"claim": v.claim, "holds": v.holds, "evidence": v.evidence} for v in verdicts],
    }
