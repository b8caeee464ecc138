"""Operators with kernels of their own. They load at import; without them the plain PyTorch twins run, said in one line.

`backend()` says which run and why; `describe()` gives the lines that `bigan doctor` prints.
"""

from bigan.ops import _load
from bigan.ops import affine_leaky_relu as _affine_leaky_relu
from bigan.ops import batch_norm_leaky_relu as _batch_norm_leaky_relu
from bigan.ops import bias_leaky_relu as _bias_leaky_relu
from bigan.ops import rows as _rows
from bigan.ops._load import Backend, KernelsMissingError

_BACKEND = _load.load()
_bias_leaky_relu.register()
bias_leaky_relu = _bias_leaky_relu.bias_leaky_relu
bias_leaky_relu_ = _bias_leaky_relu.bias_leaky_relu_
_affine_leaky_relu.register()
affine_leaky_relu = _affine_leaky_relu.affine_leaky_relu
_batch_norm_leaky_relu.register()
batch_norm_leaky_relu = _batch_norm_leaky_relu.batch_norm_leaky_relu
channel_moments = _batch_norm_leaky_relu.channel_moments
fold_batch_norm = _batch_norm_leaky_relu.fold_batch_norm
_rows.register()
squared_norm = _rows.squared_norm
row_dot = _rows.row_dot
row_combine = _rows.row_combine
row_combine_ = _rows.row_combine_

__all__ = [
    "Backend",
    "KernelsMissingError",
    "affine_leaky_relu",
    "backend",
    "batch_norm_leaky_relu",
    "bias_leaky_relu",
    "bias_leaky_relu_",
    "channel_moments",
    "describe",
    "fold_batch_norm",
    "row_combine",
    "row_combine_",
    "row_dot",
    "squared_norm",
]


def backend() -> Backend:
    """Return which kernels run in this process, and why not more."""
    return _BACKEND


def describe() -> list[str]:
    """Return what `bigan doctor` prints about the kernels: which are built, for what, and why not more."""
    lines = [f"kernels: {_BACKEND}"]
    lines += [f"  {key}: {value}" for key, value in _BACKEND.build.items() if value != ""]
    return lines
