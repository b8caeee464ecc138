"""A snapshot from a GPU: into pinned memory that is used again, whole before the next step writes over what was saved."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bigan.distributed.checkpoint import load
from bigan.distributed.saver import Saver

from ..unit.saved import made

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_a_snapshot_is_of_the_moment_it_was_asked_for(tmp_path: Path) -> None:
    value = torch.zeros(64, 3, 256, 256, device="cuda").to(memory_format=torch.channels_last)
    step = torch.tensor(0.0)
    with Saver(tmp_path, keep=9) as saver:
        for round in (1, 2, 3):
            torch.cuda._sleep(100_000_000)  # the copy is asked for long before the value is there
            value.fill_(round)
            step.fill_(round)
            saver.save(replace(made(round), tensors={"v": value, "half": value[:32], "step": step}))
            memory = {name: tensor.data_ptr() for name, tensor in saver._memory.items()}
            assert [saver._memory[name].is_pinned() for name in ("v", "half", "step")] == [True, True, False]
            value.fill_(-1.0)
            assert {name: tensor.data_ptr() for name, tensor in saver._memory.items()} == memory
        saver.wait()
        assert saver.problem is None
    for round in (1, 2, 3):
        tensors = load(tmp_path / f"round_{round:08d}").tensors
        assert all(tensor.eq(round).all() for tensor in tensors.values()), round
