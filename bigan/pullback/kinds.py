"""The layers of torch that have a pullback."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bigan.ops import bias_leaky_relu_
from bigan.ops.reference import accumulation_dtype, lies_channels_last
from bigan.precision import wide
from bigan.pullback.maps import Bilinear, Convolution, Matrix, Window, dense_format
from bigan.pullback.nodes import KinkPullback, WeightedPullback
from bigan.pullback.registry import NoPullbackError, kind
from bigan.pullback.trace import Cotangent, Pull, Trace, row_products

Adjoint = Callable[[Tensor], Tensor]


def no_parts(layer: nn.Module) -> tuple[()]:
    """Of a layer whose forward is its own alone."""
    return ()


def linear(
    *types: type[nn.Module], refuses: Callable[[Any], str | None] = lambda layer: None, new: bool = False
) -> Callable[[Callable[[Any, Tensor], tuple[Tensor, Adjoint]]], object]:
    """Teach `record` a linear map without parameters: decorate a function from (layer, input) to (output, adjoint).

    `affine` needs no function; this is for a map whose adjoint is cheaper than autograd's, or has to be compiled.

    Args:
        types: the classes.
        refuses: as of `kind`.
        new: the output never shares memory with the input, and a kink after it may work in place.
    """

    def refused(layer: nn.Module) -> str | None:
        return (
            "has parameters, and is no linear map to leave them out"
            if any(True for _ in layer.parameters())
            else refuses(layer)
        )

    def register(run: Callable[[Any, Tensor], tuple[Tensor, Adjoint]]) -> object:
        def traced(layer: nn.Module, x: Tensor, trace: Trace) -> tuple[Tensor, Pull]:
            y, adjoint = run(layer, x)
            return trace.made(y) if new else y, lambda above: above.map(adjoint)

        return kind(*types, parts=no_parts, refuses=refused)(traced)

    return register


def affine(*types: type[nn.Module], refuses: Callable[[Any], str | None] = lambda layer: None) -> None:
    """Teach `record` layers that are affine in their input, by autograd of the layer itself, whatever their parameters.

    They must not couple samples, draw no random numbers and keep no state.
    """

    def run(layer: nn.Module, x: Tensor, trace: Trace) -> tuple[Tensor, Pull]:
        def pull(above: Cotangent) -> Cotangent:
            with trace.autocast():
                held, term = _vector_product(layer, x[: trace.held], above.held)
                trace.add_held(term)
                if len(x) == trace.held:
                    return Cotangent(held, held.detach())
                free, _ = _vector_product(layer, x[trace.held :], above.whole[trace.held :])
                with trace.recording():
                    trace.add_free(row_products(above.whole[trace.held :], layer(x[trace.held :])))
                return Cotangent(held, torch.cat([held.detach(), free.detach()]))

        with trace.autocast():
            return layer(x), pull

    def refused(layer: nn.Module) -> str | None:
        # Spectral norm would iterate at each of the readings.
        parametrized = any(parametrize.is_parametrized(part) for part in layer.modules())
        return "is parametrized, and run several times a pass" if parametrized else refuses(layer)

    kind(*types, parts=no_parts, refuses=refused)(run)


def _vector_product(layer: nn.Module, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """The adjoint of an affine map at g, and ⟨g, what the map adds⟩ for each sample; both recorded as the surroundings are."""
    recording = torch.is_grad_enabled()
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        y = layer(leaf)
        (below,) = torch.autograd.grad(y, leaf, g, create_graph=recording)
    return below, row_products(g, y) - row_products(below, x)


def weighted(layer: nn.Module, over: Bilinear, x: Tensor, trace: Trace, channels: int) -> tuple[Tensor, Pull]:
    """A map with a weight and perhaps a bias, whose output has its channels in that dimension."""
    if x.dim() < 2:
        raise NoPullbackError(f"{type(layer).__name__} of an input {list(x.shape)} is not recorded")
    first_layer = x is trace.images
    x, weight, bias = trace.cast(x), trace.cast(trace.parameter(layer, "weight")), trace.parameter(layer, "bias")
    y = over.forward(x, weight, None if bias is None else bias.to(weight.dtype))
    others = [d for d in range(1, y.dim()) if d != channels % y.dim()]
    # An empty view would keep all of x.
    free = x[trace.held :] if trace.held < len(x) else x.new_empty(0)

    def total(g: Tensor) -> Tensor:
        return g.sum(others, dtype=accumulation_dtype(g.dtype)) if others else wide(g)

    def pull(above: Cotangent) -> Cotangent:
        if bias is not None:
            with torch.no_grad():
                of_free = total(above.whole[trace.held :])
            trace.add_bias(bias, total(above.held), of_free)
        held, whole, terms = WeightedPullback.apply(above.held, weight, above.whole, free, over, first_layer)
        trace.add_free(terms)
        return Cotangent(held, whole)

    return trace.made(y), pull


def kink(x: Tensor, bias: Tensor | None, slope: float, trace: Trace) -> tuple[Tensor, Pull]:
    """leaky_relu(x + bias), x: [B, C, *], in place where nobody else reads x."""
    if x.dim() < 2:
        raise NoPullbackError("a leaky ReLU over samples without channels is not recorded")
    channels_last = lies_channels_last(x)
    if trace.may_overwrite(x) and (channels_last or x.is_contiguous()):
        y, bits = x, bias_leaky_relu_(x, bias, slope)
    else:
        shift = None if bias is None else bias.to(accumulation_dtype(x.dtype))
        y, bits = torch.ops.bigan.bias_leaky_relu.default(x, shift, slope, channels_last)

    def pull(above: Cotangent) -> Cotangent:
        held, whole, sums, totals = KinkPullback.apply(above.held, above.whole, bits, slope, channels_last, bias is not None)
        if bias is not None:
            trace.add_bias(bias, sums, totals[trace.held :])
        return Cotangent(held, whole)

    return trace.made(y), pull


@kind(nn.Sequential)
def _sequential(layers: nn.Sequential, x: Tensor, trace: Trace) -> tuple[Tensor, Pull]:
    return trace.chain(layers, x)


def _padding_refused(layer: Any) -> str | None:
    if layer.padding_mode != "zeros":
        return f"pads with {layer.padding_mode}"
    if layer.padding == "same" and any(d * (k - 1) % 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)):
        return "pads one side more than the other"
    return None


@kind(nn.Conv1d, nn.Conv2d, nn.Conv3d, parts=no_parts, refuses=_padding_refused)
def _convolution(layer: Any, x: Tensor, trace: Trace) -> tuple[Tensor, Pull]:
    if x.dim() != len(layer.kernel_size) + 2:
        raise NoPullbackError(f"{type(layer).__name__} of an input {list(x.shape)} is not recorded")
    size, padding = x.shape[2:], layer.padding
    if padding == "valid":
        padding = (0,) * len(size)
    elif padding == "same":
        padding = tuple(d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
    if layer.kernel_size == tuple(size) and layer.groups == 1 and not any(padding) and set(layer.dilation) == {1}:
        dims = tuple(range(x.dim()))
        over = Window((0, *dims[2:], 1) if lies_channels_last(x) else dims)
    else:
        over = Convolution(layer.stride, padding, layer.dilation, layer.groups, size)
    return weighted(layer, over, x, trace, 1)


@kind(nn.Linear, parts=no_parts)
def _linear(layer: nn.Linear, x: Tensor, trace: Trace) -> tuple[Tensor, Pull]:
    return weighted(layer, Matrix(), x, trace, -1)


@kind(nn.LeakyReLU)
def _leaky_relu(layer: nn.LeakyReLU, x: Tensor, trace: Trace) -> tuple[Tensor, Pull]:
    if layer.inplace:
        trace.refuse_shared("LeakyReLU(inplace=True)")
    return kink(x, None, layer.negative_slope, trace)


@kind(nn.ReLU)
def _relu(layer: nn.ReLU, x: Tensor, trace: Trace) -> tuple[Tensor, Pull]:
    if layer.inplace:
        trace.refuse_shared("ReLU(inplace=True)")
    return kink(x, None, 0.0, trace)


@linear(nn.Identity)
def _identity(layer: nn.Identity, x: Tensor) -> tuple[Tensor, Adjoint]:
    return x, lambda g: g


@linear(nn.Flatten)
def _flatten(layer: nn.Flatten, x: Tensor) -> tuple[Tensor, Adjoint]:
    y, shape = layer(x), x.shape[1:]
    if len(y) != len(x):
        raise NoPullbackError(f"Flatten({layer.start_dim}) of {list(x.shape)} joins samples")
    return y, lambda g: g.reshape(len(g), *shape)


@linear(nn.AvgPool2d, new=True)
def _average(layer: nn.AvgPool2d, x: Tensor) -> tuple[Tensor, Adjoint]:
    shape, format_ = x.shape[1:], dense_format(x)
    settings = (_pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding))
    more = (layer.ceil_mode, layer.count_include_pad, layer.divisor_override)

    def adjoint(g: Tensor) -> Tensor:
        like = torch.empty(
            (len(g), *shape), dtype=g.dtype, device=g.device, memory_format=format_
        )  # its shape is all that is read
        return torch.ops.aten.avg_pool2d_backward.default(g, like, *settings, *more)

    return layer(x), adjoint


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _upsample_refused(layer: nn.Upsample) -> str | None:
    if layer.mode != "nearest":
        return f"interpolates by {layer.mode}"
    factors = layer.scale_factor if isinstance(layer.scale_factor, tuple) else (layer.scale_factor,)
    return None if all(f is not None and float(f).is_integer() for f in factors) else "has no whole scale_factor"


@linear(nn.Upsample, nn.UpsamplingNearest2d, refuses=_upsample_refused, new=True)
def _upsample(layer: nn.Upsample, x: Tensor) -> tuple[Tensor, Adjoint]:
    if x.dim() != 4:
        raise NoPullbackError(f"Upsample of {list(x.shape)} is not recorded")
    y = layer(x)
    factors = [large // small for large, small in zip(y.shape[2:], x.shape[2:], strict=True)]
    return y, lambda g: F.avg_pool2d(g, factors) * math.prod(factors)


affine(nn.AdaptiveAvgPool2d, nn.AvgPool1d, nn.AvgPool3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
affine(nn.PixelShuffle, nn.PixelUnshuffle, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.Unflatten)
