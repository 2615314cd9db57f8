"""Pictures of a task, uint8 [H, W, 3]: a contact sheet for images, a plot for regression from one number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_env.episode import Episode, TaskSpec

Picture = NDArray[np.uint8]
RIGHT, WRONG, SUPPORT = (0.1, 0.7, 0.2), (0.9, 0.1, 0.1), (0.5, 0.5, 0.5)


def draw(spec: TaskSpec, task: Episode, answers: Mapping[str, Tensor]) -> Picture | None:
    """Draw task 0 of a batch, its true answers included.

    Args:
        spec: the spec of the tasks.
        task: a batch of tasks, of which the first is drawn.
        answers: predictions to draw, by name: labels int64 [Q] or scores [Q, N] (the last entry is drawn), or values
            [Q, K] of a regression with K outputs (all entries are drawn).

    Returns:
        uint8 [H, W, 3]; None for tasks that have no picture: there are pictures of images with 1 or 3 channels, and of
        regression from one number.
    """
    if spec.kind == "classification" and len(spec.in_shape) == 3 and spec.in_shape[0] in (1, 3):
        return contact_sheet(spec, task, list(answers.values())[-1] if answers else None)
    if spec.kind == "regression" and spec.in_shape == (1,):
        return curves(task, answers)
    return None


def contact_sheet(spec: TaskSpec, task: Episode, answer: Tensor | None, most: int = 16) -> Picture:
    """Draw one row per class: support images (grey frame), then at most `most` query images.

    With an answer, a query image is in the row of its *predicted* class, with a green frame where that is right and a
    red one where it is wrong; without, in the row of its true class.
    """
    from torchvision.utils import make_grid

    truth = task.query.labels[0].cpu()
    predicted = truth if answer is None else (answer.argmax(-1) if answer.dim() == 2 else answer).cpu()
    support_x, support_y = task.support.x[0].cpu(), task.support.labels[0].cpu()
    blank = torch.ones(3, *spec.in_shape[1:])
    n_way = 1 + int(torch.cat([support_y, predicted]).max())
    shots, widest = int(support_y.bincount().max()), min(most, int(torch.bincount(predicted, minlength=n_way).max()))
    cells = []
    for label in range(n_way):
        shown = [_framed(image, SUPPORT) for image in support_x[support_y == label]]
        cells += shown + [blank] * (shots - len(shown))
        row = (predicted == label).nonzero().flatten()[:widest]
        for i in row.tolist():
            colour = SUPPORT if answer is None else (RIGHT if truth[i] == label else WRONG)
            cells.append(_framed(task.query.x[0, i].cpu(), colour))
        cells += [blank] * (widest - len(row))
    columns = shots + widest
    grid = make_grid(torch.stack(cells), nrow=columns, padding=2, pad_value=1.0)
    picture: Picture = (grid.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    return picture


def _framed(image: Tensor, colour: tuple[float, float, float], width: int = 3) -> Tensor:
    image = image.expand(3, -1, -1)
    framed = torch.tensor(colour).view(3, 1, 1).expand_as(image).clone()
    framed[:, width:-width, width:-width] = image[:, width:-width, width:-width]
    return framed


def curves(task: Episode, answers: Mapping[str, Tensor]) -> Picture:
    """Plot support points, true values and one curve per answer [Q, K] and output, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), dpi=100, layout="constrained")
    plot_curves(figure.subplots(), task, answers)
    return rasterised(figure)


def plot_curves(axes: Any, task: Episode, answers: Mapping[str, Tensor]) -> None:
    """Plot on matplotlib axes; the curves of the answers go from light to dark in their order.

    With K > 1 outputs each has its own colour: its true values, its support points and its curves, which go from
    transparent to opaque.
    """
    x = task.query.x[0].flatten().cpu()
    order = x.argsort()
    ink = axes.xaxis.label.get_color()
    truth, support_y = task.query.labels[0].cpu(), task.support.labels[0].cpu()  # [Q, K], [S, K]
    support_x = task.support.x[0].flatten().cpu()
    n_outputs = truth.shape[1]
    for k, colour in enumerate(output_colours(n_outputs)):
        suffix = f", output {k + 1}" if n_outputs > 1 else ""
        line_colours = shades(len(answers)) if colour is None else fading(colour, len(answers))
        axes.plot(x[order], truth[order, k], ":", color=ink if colour is None else colour, label=f"truth{suffix}")
        for (name, values), line_colour in zip(answers.items(), line_colours, strict=True):
            curve = values.detach().cpu()[order, k]
            axes.plot(x[order], curve, color=line_colour, label=f"{name}{suffix}")
        axes.plot(support_x, support_y[:, k], "^", color=ink if colour is None else colour, label=f"support{suffix}")
    axes.set(xlabel="x", ylabel="y")
    axes.legend(loc="best", fontsize="small")


def shades(count: int) -> Any:
    """Colours [count, 4] from light to dark, all visible on white and on black; a single one is blue."""
    from matplotlib import colormaps

    return colormaps["plasma"](np.linspace(0.82, 0.38, count)) if count > 1 else [(0.3, 0.54, 0.84, 1.0)] * count


def output_colours(n_outputs: int) -> list[Any]:
    """A colour for each output of a regression; [None], which stands for the text's colour, for a single output."""
    from matplotlib import colormaps

    return [None] if n_outputs == 1 else [colormaps["tab10"](k % 10) for k in range(n_outputs)]


def fading(colour: Any, count: int) -> list[Any]:
    """The same colour `count` times, from transparent to opaque."""
    return [(*colour[:3], alpha) for alpha in np.linspace(1, 0.35, count)[::-1]]


def rasterised(figure: Any) -> Picture:
    """Render a matplotlib figure as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture: Picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return picture
