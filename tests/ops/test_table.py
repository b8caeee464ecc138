"""Every operator of the table on the CPU."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from .check import DTYPES, LAYOUTS, check_compiled, check_op, check_values
from .table import TABLE

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", TABLE)
def test_operator(name: str, dtype: torch.dtype) -> None:
    case = TABLE[name]
    check_op(case, list(case.samples(dtype, CPU)))


@pytest.mark.parametrize("name", TABLE)
@given(
    shape=st.lists(st.integers(0, 20), min_size=2, max_size=5).map(tuple),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(LAYOUTS),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_operator_at_drawn_shapes(name: str, shape: tuple[int, ...], dtype: torch.dtype, layout: str) -> None:
    if layout == "channels_last" and len(shape) < 4:
        layout = "contiguous"
    check_values(TABLE[name], TABLE[name].sample(shape, dtype, layout, CPU))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", TABLE)
def test_operator_compiles_once_for_all_sizes(name: str, dtype: torch.dtype) -> None:
    shapes = [(2, 5, 9, 4), (4, 6, 3, 5), (7, 12, 8, 9)]
    check_compiled(TABLE[name], [TABLE[name].sample(shape, dtype, "contiguous", CPU) for shape in shapes])
