"""Images in folders, as people have them, and runs on images."""

import numpy as np
from PIL import Image

from fewshot_env.worlds.sampler import Glyphs
from tests.helpers.cli import main, only_run, sets

SIZE = 28
NAMES = ["ant", "bee", "cat"]
AGENTS = [
    "maml", "turtle", "lstm", "anil", "imaml", "cavia", "mt-net", "sap", "maml++", "op-lstm", "plain-lstm", "protonet",
    "simpleshot", "r2d2", "matching", "relation", "leo", "metaoptnet", "linear-probe", "transductive-finetuning",
    "finetuning", "baseline++", "scratch", "chance",
]  # fmt: skip
"""One of each kind; all of them classify images."""


def make_run(folder, agent, *more):
    settings = ["train_tasks=40", "val_tasks=4", "test_tasks=4", "env.n_query=4", *more]
    settings += [] if agent == "chance" else ["agent.filters=8"]
    steps = ["agent.inner_steps=2"] if agent in ("maml", "turtle", "lstm") else []
    words = ["run", "--env", "glyphs", "--n-way", "3", "--n-shot", "2", "--agent", agent, "--quiet"]
    assert main(*words, *sets(*settings, *steps), "--log-dir", folder) == 0
    return only_run(folder)


def draw(folder, n_way=3, seed=7):
    """Labelled images in `folder/support/CLASS/`, new ones in `folder/new`, called CLASS_NUMBER.png."""
    task = Glyphs(split="test", n_way=n_way, n_shot=2, n_query=4, size=SIZE).sample([seed])
    names = [*NAMES, "dog", "eel"][:n_way]
    for where, split in (("support", task.support), ("new", task.query)):
        for i, (x, y) in enumerate(zip(split.x[0], split.y[0], strict=True)):
            place = folder / where / (names[y] if where == "support" else "")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(x.permute(1, 2, 0).numpy())).save(place / f"{names[y]}_{i:03}.png")
    return folder
