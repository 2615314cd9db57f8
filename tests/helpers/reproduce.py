"""What `fsl reproduce` leaves behind."""

import json

TINY = {"train_tasks": 12, "val_every": 6, "val_tasks": 4, "test_tasks": 6, "eval_batch": 2}


def report(folder, name):
    return json.loads((folder / f"{name}-quick.json").read_text())


def scores(cell):
    return [run["score"] for run in cell["runs"]]


def counts(folder, name):
    return [len(cell["runs"]) for cell in report(folder, name)["cells"]]


def results(folder):
    return {file: file.stat().st_mtime_ns for file in folder.glob("cells/*/seed*/result.json")}
