"""Load the compiled libraries, or put the reference twins in their place; see `bigan.ops.backend`."""

import importlib
import importlib.util
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from bigan.ops import reference

_LOG = logging.getLogger("bigan.ops")


@dataclass(frozen=True)
class Backend:
    """Which kernels run: `name` is 'compiled cpu+cuda', 'compiled cpu' or 'reference'; `reason` says why not more."""

    name: str
    reason: str = ""
    build: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})" if self.reason else self.name


class KernelsMissingError(RuntimeError):
    """`BIGAN_REQUIRE_KERNELS=1`, and a compiled kernel is not there."""


def load() -> Backend:
    """Register every operator of `torch.ops.bigan`; called once, by the import of `bigan.ops`.

    Raises:
        KernelsMissingError: the CPU kernels did not load and `BIGAN_REQUIRE_KERNELS=1`.
    """
    required = os.environ.get("BIGAN_REQUIRE_KERNELS", "0") not in ("", "0")
    try:
        cpu = importlib.import_module("bigan._C")
    except ImportError as error:
        reason = _missing("bigan._C", error)
        if required:
            raise KernelsMissingError(f"BIGAN_REQUIRE_KERNELS=1, but {reason}; build with `pip install -e .`") from error
        _LOG.warning("bigan.ops runs on the plain PyTorch reference: %s", reason)
        _define_schemas()
        _register_fallback(required=False, reason=reason)
        return Backend("reference", reason)
    name, reason = "compiled cpu+cuda", ""
    try:
        _load_cuda()
    except (ImportError, OSError) as error:
        name, reason = "compiled cpu", _missing("bigan._C_cuda", error)
    _register_fallback(required=required, reason=reason)
    return Backend(name, reason, cpu.build_info())


def _missing(library: str, error: Exception) -> str:
    built = importlib.util.find_spec(library) is not None
    return f"{library} does not load: {str(error).splitlines()[0]}" if built else f"{library} is not built"


def _load_cuda() -> None:
    spec = importlib.util.find_spec("bigan._C_cuda")
    if spec is None or spec.origin is None:
        raise ImportError("bigan._C_cuda is not built")
    torch.ops.load_library(spec.origin)


# Registrations live as long as their Library object.
_LIBRARIES: list[torch.library.Library] = []


def _define_schemas() -> None:
    library = torch.library.Library("bigan", "DEF")
    for schema in reference.SCHEMAS:
        library.define(schema)
    _LIBRARIES.append(library)


def _register_fallback(*, required: bool, reason: str) -> None:
    """Give every device without a kernel of its own the reference twin, or a refusal where kernels are required."""
    library = torch.library.Library("bigan", "FRAGMENT")
    for schema in reference.SCHEMAS:
        name = schema.partition("(")[0]
        twin = _refuse(name, reason) if required else getattr(reference, name)
        library.impl(name, twin, "CompositeExplicitAutograd")
    _LIBRARIES.append(library)


def _refuse(name: str, reason: str) -> Callable[..., Any]:
    def refuse(*_args: Any) -> Any:
        raise KernelsMissingError(f"BIGAN_REQUIRE_KERNELS=1, but bigan::{name} has no kernel for this device; {reason}")

    return refuse
