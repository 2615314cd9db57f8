"""What `fsl run` holds of its own memory on Conv4 as the paper has it (campaigns/memory.py measures every case)."""

from pathlib import Path

import pytest

from campaigns import memory


@pytest.mark.slow
@pytest.mark.parametrize("case", ["maml", "turtle", "finetuning"])
def test_a_run_of_images_stays_within_one_gigabyte(case: str, tmp_path: Path) -> None:
    memory.prepare(tmp_path)
    assert 0 < memory.measure(case, tmp_path).own < 1024
