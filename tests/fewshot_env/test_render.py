"""Pictures of tasks, and families that have none."""

import torch

from fewshot_env.episode import Episode, Split, TaskSpec
from fewshot_env.render import RIGHT, WRONG, draw, plot_curves


def images(channels):
    spec = TaskSpec("classification", (channels, 12, 12), 2, 5, (0, 1), (0, 1))
    labels = torch.tensor([[0, 1]])
    part = Split(torch.full((1, 2, channels, 12, 12), 0.5), labels)
    return spec, Episode(part, part)


def frames(picture):
    """The colours of the frames of the sheet's cells: two rows of support and query."""
    return {tuple(c) for c in picture.reshape(-1, 3).tolist()}


def colour(values):
    return tuple(round(255 * v) for v in values)


def test_right_and_wrong_answers_are_marked():
    for channels in (1, 3):
        spec, task = images(channels)
        right = frames(draw(spec, task, {"answers": torch.tensor([0, 1])}))
        wrong = frames(draw(spec, task, {"answers": torch.tensor([1, 0])}))
        assert colour(RIGHT) in right
        assert colour(WRONG) not in right
        assert colour(WRONG) in wrong
        assert colour(RIGHT) not in wrong


def test_scores_are_shown_by_their_argmax():
    spec, task = images(3)
    assert (draw(spec, task, {"a": torch.eye(2)}) == draw(spec, task, {"a": torch.tensor([0, 1])})).all()


def test_other_families_have_no_picture():
    spec, task = images(2)
    assert draw(spec, task, {}) is None
    plane = TaskSpec("regression", (2,), 1, 1, (-1, 1), (-1, 1))
    points = Split(torch.zeros(1, 3, 2), torch.zeros(1, 3, 1))
    assert draw(plane, Episode(points, points), {}) is None


def test_every_output_of_a_regression_has_its_curves():
    """Truth, answers and support of both outputs, each output in one colour; and the picture that an env gives."""
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure

    x = torch.linspace(-1, 1, 5).view(1, 5, 1).flip(1)
    part = Split(x, torch.cat([x.square(), -x], -1))
    spec, task = TaskSpec("regression", (1,), 2, 1, (-1, 1), (-1, 1)), Episode(part, part)
    answers = {"before": torch.zeros(5, 2), "after": part.labels[0] + torch.tensor([1.0, 2.0])}
    axes = Figure().subplots()
    plot_curves(axes, task, answers)
    lines = {line.get_label(): line for line in axes.lines}
    assert len(axes.lines) == len(lines) == 8
    colours = []
    for k in (0, 1):
        of_output = {name: lines[f"{name}, output {k + 1}"] for name in ("truth", "before", "after", "support")}
        assert (of_output["truth"].get_ydata() == part.labels[0, :, k].flip(0)).all()
        assert (of_output["after"].get_ydata() == part.labels[0, :, k].flip(0) + 1 + k).all()
        assert (of_output["support"].get_ydata() == part.labels[0, :, k]).all()
        (colour,) = {to_rgb(line.get_color()) for line in of_output.values()}
        colours.append(colour)
    assert colours[0] != colours[1]
    assert draw(spec, task, answers).shape[2] == 3
    assert (draw(spec, task, answers) != draw(spec, task, {})).any()
