"""Pictures of a task: a contact sheet (images) or a plot (sine), as uint8 [H, W, 3]."""

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
    """Draw task 0 of `task` (true answers included) with named answers; None for tasks without a picture.

    answers: name -> labels [Q] or scores [Q, N] (the last named are shown), or name -> values [Q, 1] (all
    are drawn as curves). There are pictures of images with 1 or 3 channels, and of regression from one number.
    """
    if spec.kind == "classification" and len(spec.in_shape) == 3 and spec.in_shape[0] in (1, 3):
        return contact_sheet(spec, task, list(answers.values())[-1] if answers else None)
    if spec.kind == "regression" and spec.in_shape == (1,):
        return curves(task, answers)
    return None


def contact_sheet(spec: TaskSpec, task: Episode, answer: Tensor | None, most: int = 16) -> Picture:
    """One row per class: support images (gray frame), then up to `most` query images.

    With answers, a query image stands in the row of the class it was *given*, framed green where that
    is right and red where it is wrong; without, in the row of its true class.
    """
    from torchvision.utils import make_grid

    truth = task.query.labels[0].cpu()
    given = truth if answer is None else (answer.argmax(-1) if answer.dim() == 2 else answer).cpu()
    support_x, support_y = task.support.x[0].cpu(), task.support.labels[0].cpu()
    blank = torch.ones(3, *spec.in_shape[1:])
    n_way = 1 + int(torch.cat([support_y, given]).max())
    shots, widest = int(support_y.bincount().max()), min(most, int(torch.bincount(given, minlength=n_way).max()))
    cells = []
    for label in range(n_way):
        shown = [_framed(image, SUPPORT) for image in support_x[support_y == label]]
        cells += shown + [blank] * (shots - len(shown))
        row = (given == label).nonzero().flatten()[:widest]
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
    """Support points, true query points, and one curve per named answer [Q, 1], as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), dpi=100, layout="constrained")
    plot_curves(figure.subplots(), task, answers)
    return rasterised(figure)


def plot_curves(axes: Any, task: Episode, answers: Mapping[str, Tensor]) -> None:
    """The same on matplotlib axes; the curves go from light to dark in their order."""
    x = task.query.x[0].flatten().cpu()
    order = x.argsort()
    ink = axes.xaxis.label.get_color()
    axes.plot(x[order], task.query.labels[0].flatten().cpu()[order], ":", color=ink, label="truth")
    for (name, values), shade in zip(answers.items(), shades(len(answers)), strict=True):
        axes.plot(x[order], values.detach().flatten().cpu()[order], color=shade, label=name)
    points = task.support.x[0].flatten().cpu(), task.support.labels[0].flatten().cpu()
    axes.plot(*points, "^", color=ink, label="support")
    axes.set(xlabel="x", ylabel="y")
    axes.legend(loc="best", fontsize="small")


def shades(count: int) -> Any:
    """Colours [count, 4] from light to dark, all of which show on white and on black; one alone is blue."""
    from matplotlib import colormaps

    return colormaps["plasma"](np.linspace(0.82, 0.38, count)) if count > 1 else [(0.3, 0.54, 0.84, 1.0)] * count


def rasterised(figure: Any) -> Picture:
    """A matplotlib figure as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture: Picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return picture
