"""Runs on synthetic images, and folders of such images as people have them."""

import pytest

from tests.helpers.photos import draw, make_run


@pytest.fixture(scope="package")
def runs(tmp_path_factory):
    """The folder of a run of an agent, by its name."""
    made = {}

    def run_of(agent, *more):
        if (agent, more) not in made:
            made[agent, more] = make_run(tmp_path_factory.mktemp(agent.replace(":", "_")), agent, *more)
        return made[agent, more]

    return run_of


@pytest.fixture
def photos(tmp_path):
    """Three classes of two labelled images, and twelve new ones."""
    return draw(tmp_path)
