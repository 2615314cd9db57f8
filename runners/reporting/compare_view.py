"""A comparison of runs to look at: a table, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewshot_env.errors import FewShotError
from runners.console.output import columns
from runners.reporting.compare import Scored, difference, mean_interval, not_finite, verdict
from runners.reporting.picture import save


def table(found: Sequence[Scored]) -> str:
    """The comparison as aligned text: each run, and its difference to the first."""
    rows = [["", "runs", found[0].metric, "difference", "paired", "unpaired", "over seeds", ""]]
    for i, one in enumerate(found):
        mean, half = mean_interval(one)
        row = [one.name, str(len(one.scores)), f"{mean:.4f} ± {half:.4f}"]
        if i:
            d = difference(one, found[0])
            row += [f"{d.mean:+.4f}", f"± {d.paired:.4f}", f"± {d.unpaired:.4f}"]
            row += ["" if d.seeds is None else f"± {d.seeds:.4f}", verdict(d, one.metric)]
        rows.append(row + [""] * (8 - len(row)))
    kept = [c for c in range(8) if any(row[c] for row in rows[1:])]
    return "\n".join([columns([[row[c] for c in kept] for row in rows], indent=""), "", *notes(found)])


def notes(found: Sequence[Scored]) -> list[str]:
    """What the numbers of the table mean."""
    tasks, first = found[0].scores.shape[1], found[0]
    lines = [f"{tasks} test tasks of {first.env} (episodes {first.episodes}); differences to {first.name}."]
    lines += ["± is half of a 95 % interval over tasks; paired: the same tasks compared one by one, which decides."]
    if any(difference(one, first).seeds is not None for one in found[1:]):
        lines += ["Over seeds: of training anew, where the intervals over tasks are of these very runs; both decide."]
    else:
        lines += ["Better or worse: these very runs. Of training anew, several seeds would tell."]
    diverged = [f"{one.name} {n}" for one in found if (n := not_finite(one))]
    if diverged:
        lines += [f"Tasks that are not finite are left out: {', '.join(diverged)}."]
    return lines


def plot(found: Sequence[Scored], file: Path) -> None:
    """Write the comparison as a picture, PNG or SVG by the file's ending: means, and differences to the first."""
    if file.suffix not in (".png", ".svg"):
        raise FewShotError(f"--plot {file} must end in .png or .svg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.6 + 0.5 * len(found)), dpi=120, layout="constrained")
    means, differences = figure.subplots(1, 2, sharey=True)
    for y, one in enumerate(found):
        mean, half = mean_interval(one)
        means.plot(one.by_run, [y] * len(one.scores), "|", color="#888888", markersize=12)
        means.errorbar(mean, y, xerr=half, fmt="o", color="#30638e", capsize=4)
        if y:
            d = difference(one, found[0])
            differences.errorbar(d.mean, y, xerr=d.unpaired, fmt="none", color="#c9c9c9", elinewidth=7)
            if d.seeds is not None:
                differences.errorbar(d.mean, y, xerr=d.seeds, fmt="none", color="#444444", elinewidth=1)
            differences.errorbar(d.mean, y, xerr=d.paired, fmt="o", color="#d1495b", capsize=4)
    differences.axvline(0, color="#444444", linewidth=1)
    means.set_yticks(range(len(found)), [one.name for one in found])
    means.set_ylim(len(found) - 0.5, -0.5)  # the first on top
    means.set(xlabel=found[0].metric, title="mean, 95 % over tasks (ticks: runs)")
    differences.set(xlabel=f"{found[0].metric}, difference to the first")
    differences.set_title("95 %: paired (red), unpaired (grey), over seeds (line)", fontsize=10)
    for axes in (means, differences):
        axes.grid(axis="x", alpha=0.3)
    try:
        save(figure, file)
    except OSError as error:
        raise FewShotError(f"--plot {file} can not be written ({error.strerror or error}); choose another") from error
