"""Report: an experiment as Markdown, LaTeX, JSON and (figures) pictures; each says at what scale it was run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewshot_env.errors import command
from runners.reproduce.machinery.claims import Verdict
from runners.reproduce.machinery.drawing import draw
from runners.reproduce.machinery.earlier import EarlierReports
from runners.reproduce.machinery.experiment import Experiment
from runners.reproduce.machinery.grid import Scale
from runners.reproduce.machinery.runs import Runs
from runners.reproduce.machinery.statistics import PAPER, PUBLISHED
from runners.reproduce.machinery.summary import Summaries, Summary, distinct, mean
from runners.storage.run_folder import write_json, write_text

HEAD = ("agent", "setting", "runs", "diverged tasks", "median ± 95 %", "published statistic", "reference", "overlap")
HOURS = "hours per run"
"""One more column, where an experiment is about time."""


def write(experiment: Experiment, scale: Scale, cells: Summaries, runs: Runs, earlier: EarlierReports) -> Path:
    """Write an experiment's page, table, JSON and pictures below the runs' folder; returns the Markdown file."""
    name = experiment.name if scale.name == "full" else f"{experiment.name}-{scale.name}"
    stem = runs.out / name
    verdicts = [claim.verdict(cells) for claim in experiment.claims]
    pictures = [stem.with_name(f"{name}.{suffix}") for suffix in ("png", "svg")] if experiment.draw else []
    if pictures:
        draw(experiment, cells, _completeness(scale, cells), pictures)
    rows = [_row(experiment, summary) for summary in cells.values()]
    data = experiment.holdings(runs.data_dir)
    counted = [word for file in earlier.files for word in ("--with", file.name)]
    made_with = command("fsl", "reproduce", experiment.name, "--scale", scale.name, *counted)
    page = _markdown(experiment, scale, cells, rows, verdicts, pictures, data, made_with)
    write_text(stem.with_name(f"{name}.md"), page)
    write_text(stem.with_name(f"{name}.tex"), _latex(experiment, _completeness(scale, cells), rows))
    write_json(stem.with_name(f"{name}.json"), _as_json(experiment, scale, cells, verdicts, data))
    return stem.with_name(f"{name}.md")


def _completeness(scale: Scale, cells: Summaries) -> str:
    """The scale, and how many of its runs are finished."""
    have, wanted = sum(len(s.scores) for s in cells.values()), sum(s.wanted for s in cells.values())
    return scale.description + ("" if have == wanted else f"; INCOMPLETE: {have} of {wanted} runs are finished")


def _head(experiment: Experiment) -> Sequence[str]:
    return (*HEAD, HOURS) if experiment.timed else HEAD


def _row(experiment: Experiment, summary: Summary) -> list[str]:
    of = "" if len(summary.scores) == summary.wanted else f" of {summary.wanted}"
    hours = mean(summary.hours)
    timed = [] if not experiment.timed else ["" if hours is None else f"{hours:.3g}"]
    return [
        summary.cell.row,
        summary.cell.column,
        f"{len(summary.scores)}{of}",
        str(summary.diverged) if summary.scores else "",
        str(summary.paper_statistic or "not run"),
        str(summary.published_statistic or ""),
        "" if summary.cell.reference is None else str(summary.cell.reference.estimate),
        {True: "yes", False: "no", None: ""}[summary.overlaps_reference],
        *timed,
    ]


def _markdown(
    experiment: Experiment,
    scale: Scale,
    cells: Summaries,
    rows: Sequence[Sequence[str]],
    verdicts: Sequence[Verdict],
    pictures: Sequence[Path],
    data: Sequence[str],
    made_with: str,
) -> str:
    metric = {"mse": "mean squared error", "accuracy": "accuracy"}[experiment.metric]
    better = {"mse": "lower is better", "accuracy": "higher is better"}[experiment.metric]
    of = "best validation" if experiment.scored == "validation" else "test"
    hours = [h for summary in cells.values() for h in summary.hours]
    earlier = sum(summary.earlier for summary in cells.values())
    hashes, devices = distinct(cells, "episodes"), distinct(cells, "device")
    parts = [
        f"# {experiment.title}",
        f"{_completeness(scale, cells)}. Score: {metric} of the {of}, {better}.",
        *["Data: " + ". ".join(data) + "."] * bool(data),
        *[f"![{experiment.title}]({p.name})" for p in pictures[:1]],
        "\n".join(_table([_head(experiment), *rows])),
        "\n".join(
            [
                f"- **median ± 95 %**: the paper's statistic, {PAPER}, where a run's score is its mean over tasks; "
                "`fsl run --seeds` and `fsl compare` use Student's t instead of 1.96.",
                f"- **published statistic**: that of the published implementation, {PUBLISHED[experiment.scored]}.",
                f"- **reference**: {experiment.source}.",
                "- **overlap**: whether the reference's interval (widened by its rounding) and our median's overlap.",
                "- **diverged tasks**: tasks whose score is not finite, or whose squared error is above 100.",
            ]
        ),
        "## The paper's claims",
        *(
            ["At this scale, the verdicts describe very short training runs; they say nothing about the paper."]
            * bool(scale.settings)
        ),
        "\n".join(_table([("claim", "verdict", "evidence"), *[(v.claim, v.text, v.evidence) for v in verdicts]])),
        "*Undecided*: runs are missing, or their intervals are too wide to decide.",
        f"Made with `{made_with}`"
        + "".join(f"; {versions}" for versions in distinct(cells, "versions"))
        + (f"; test episodes {', '.join(hashes)}" if hashes else "")
        + (f"; {earlier} runs from earlier reports" if earlier else "")
        + (f"; {sum(hours):.3g} hours for the {len(hours)} runs that recorded their time" if hours else "")
        + (f", on {' and '.join(devices)}" if devices else "")
        + ".",
    ]
    return "\n\n".join(parts) + "\n"


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


def _as_json(
    experiment: Experiment, scale: Scale, cells: Summaries, verdicts: Sequence[Verdict], data: Sequence[str]
) -> dict[str, Any]:
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "scale": scale.name,
        "scale_in_words": _completeness(scale, cells),
        "scale_settings": dict(scale.settings),
        "metric": experiment.metric,
        "data": list(data),
        "statistics": {"paper": PAPER, "published": PUBLISHED[experiment.scored], "score": experiment.scored},
        "reference": experiment.source,
        "cells": [summary.as_json() for summary in cells.values()],
        "claims": [{"claim": v.claim, "holds": v.holds, "evidence": v.evidence} for v in verdicts],
    }
