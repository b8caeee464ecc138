"""What the public functions of the operators check of their arguments."""

from torch import Tensor

from bigan.ops import reference


def check_input(op: str, x: Tensor) -> None:
    """Refuse, by a ValueError, an x that is not [N, C, *] or not of a type that the operators know."""
    if x.dim() < 2:
        raise ValueError(f"{op}: x must be [N, C, *], got {x.dim()} dimension(s)")
    if x.dtype not in reference.DTYPES:
        raise ValueError(f"{op}: x must be fp32, bf16, fp16 or fp64, got {x.dtype}")


def check_upsample(op: str, x: Tensor, upsample: int) -> None:
    """Refuse, by a ValueError, a factor that is not 1, or 2 for an x [N, C, H, W]."""
    if upsample not in (1, 2) or (upsample == 2 and x.dim() != 4):
        raise ValueError(f"{op}: upsample must be 1, or 2 for an x [N, C, H, W], got {upsample} for {x.dim()} dimensions")


def per_channel(op: str, name: str, values: Tensor | None, x: Tensor) -> Tensor | None:
    """Return [C] values in x's accumulation type, the one in which kernels know them; ValueError if they do not fit x."""
    if values is None:
        return None
    if values.dim() != 1 or values.shape[0] != x.shape[1]:
        raise ValueError(f"{op}: {name} must be [{x.shape[1]}] for x {list(x.shape)}, got {list(values.shape)}")
    if not values.is_floating_point() or values.device != x.device:
        raise ValueError(f"{op}: {name} must be floating and on {x.device}, got {values.dtype} on {values.device}")
    return values.to(reference.accumulation_dtype(x.dtype))
