"""Pictures of points: samples over the true density, and the critic's field with its gradient."""

from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

Judge = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From points [N, D] to the critic's outputs [N] and their gradients [N, D]."""

TRUTH, MADE, INK = "Blues", "#d55e00", "#222222"  # blue, vermilion and black (Okabe and Ito): told apart by every eye
FIELD = LinearSegmentedColormap.from_list("pale PuOr", colormaps["PuOr_r"](np.linspace(0.14, 0.86, 64)))  # arrows stand out

_BINS = 240  # of the density, a side
_SMOOTHING = 1.6  # bins
_BARS = 80  # of a histogram
_CELLS = 64  # of the field, a side
_ARROW_EVERY = 4  # cells
_MARGIN = 1.25
_TAIL = 0.001  # of the truth, outside the picture but for the margin


@final
class Plot:
    """Draws points over what they are learnt from; of more than two dimensions, the first two.

    Args:
        truth: [N, D] real samples, many: their smoothed histogram is the density.
    """

    def __init__(self, truth: Tensor) -> None:
        self._truth = _array(truth)
        self._dimensions = truth.shape[1]
        low, high = np.quantile(self._truth, [_TAIL, 1 - _TAIL], axis=0)
        half = max(float((high - low).max()) / 2, 1e-6) * _MARGIN  # axes are equal
        self._bounds = [(middle - half, middle + half) for middle in (low + high) / 2]
        self._smoothed = self._histogram() if self._dimensions > 1 else np.empty((0, 0))

    def draw(self, samples: Tensor, path: Path, title: str, judge: Judge | None = None) -> None:
        """Samples [M, D] over the truth and, of a critic that judges points of one or two dimensions, its field.

        Raises:
            OSError: if the file cannot be written.
        """
        points = _array(samples)
        judged = judge if self._dimensions <= 2 else None
        _save((self._curves if self._dimensions == 1 else self._field)(points, judged), path, title)

    def paths(self, ways: Tensor, path: Path, title: str) -> None:
        """Ways [W, S, D] of samples between latents: over the truth or, in one dimension, against the position on the way."""
        figure = _figure(5.2, 5.2)
        if self._dimensions == 1:
            axes = figure.add_axes((0.13, 0.11, 0.84, 0.79))
            axes.set(xlabel="position between two latents", ylabel="sample", ylim=self._bounds[0])
            for way in ways.cpu():
                axes.plot(np.linspace(0, 1, len(way)), way[:, 0].numpy(), color=MADE, linewidth=1)
        else:
            axes = self._square(figure, (0.1, 0.07, 0.86, 0.86))
            self._density(axes)
            for way in ways.cpu().numpy():
                axes.plot(way[:, 0], way[:, 1], color=MADE, linewidth=1, alpha=0.8)
                axes.plot(*way[[0, -1], :2].T, "o", color=INK, markersize=3)
        _save(figure, path, title)

    def _curves(self, points: NDArray, judge: Judge | None) -> Figure:
        """Histograms and, below, the critic's curve."""
        figure = _figure(7.2, 5.4)
        above = figure.add_axes((0.1, 0.47, 0.87, 0.44) if judge else (0.1, 0.1, 0.87, 0.81))
        bounds = self._bounds[0]
        _, edges = np.histogram([], bins=_BARS, range=self._bounds[0])
        above.stairs(_density(self._truth[:, 0], edges), edges, fill=True, color="#9ecae1", label="real")
        above.stairs(_density(points[:, 0], edges), edges, color=MADE, linewidth=1.6, label="generated")
        above.set(xlim=bounds, ylabel="density")
        above.legend(frameon=False, loc="upper right")
        if judge:
            above.tick_params(labelbottom=False)
            below = figure.add_axes((0.1, 0.1, 0.87, 0.33))
            along = np.linspace(*bounds, 400)
            values, _ = judge(torch.from_numpy(along[:, None].astype(np.float32)))
            below.plot(along, values.cpu().numpy(), color=INK, linewidth=1.4)
            below.set(xlim=bounds, ylabel="critic")
        return figure

    def _field(self, points: NDArray, judge: Judge | None) -> Figure:
        """Samples over the density and, beside them, the critic."""
        figure = _figure(10.4 if judge else 5.2, 5.2)
        left = self._square(figure, (0.05, 0.07, 0.41, 0.84) if judge else (0.1, 0.07, 0.86, 0.84))
        self._density(left)
        left.plot(points[:, 0], points[:, 1], ".", color=MADE, markersize=3.4, alpha=0.6, markeredgewidth=0)
        left.set_title("samples over the true density", fontsize=10)
        if judge:
            right = self._square(figure, (0.51, 0.07, 0.41, 0.84))
            shown = self._critic(right, judge)
            bar = figure.colorbar(shown, cax=figure.add_axes((0.935, 0.07, 0.013, 0.84)))
            bar.ax.tick_params(labelsize=7)
            right.tick_params(labelleft=False)
            right.set_title("the critic, and where its gradient leads", fontsize=10)
        return figure

    def _critic(self, axes: Axes, judge: Judge) -> AxesImage:
        x, y = np.meshgrid(*self._middles(_CELLS))
        values, gradients = judge(torch.from_numpy(np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)))
        field = values.cpu().double().numpy().reshape(x.shape)
        low, high = np.quantile(field, [0.02, 0.98])
        image = self._image(axes, field, cmap=FIELD, norm=Normalize(low, high))
        if high > low:
            axes.contour(x, y, field, levels=np.linspace(low, high, 10), colors="white", linewidths=0.6, linestyles="solid")
        axes.contour(
            *self._middles(_BINS), self._smoothed, levels=[0.2 * self._smoothed.max()], colors=INK, linewidths=0.6, alpha=0.6
        )
        pick = (slice(_ARROW_EVERY // 2, None, _ARROW_EVERY),) * 2
        arrows = gradients.cpu().double().numpy().reshape(*x.shape, 2)[pick]
        length = np.linalg.norm(arrows, axis=-1, keepdims=True)
        # The root, up to the ninth decile: steep cliffs would leave all else without arrows.
        most = max(float(np.quantile(length, 0.9)), 1e-12)
        step = _ARROW_EVERY * (self._bounds[0][1] - self._bounds[0][0]) / _CELLS
        arrows = arrows / np.maximum(length, 1e-12) * np.sqrt(np.minimum(length / most, 1)) * 0.85 * step
        axes.quiver(
            x[pick], y[pick], arrows[..., 0], arrows[..., 1], angles="xy", scale_units="xy", scale=1, pivot="mid",
            color=INK, width=0.004, headwidth=4, headlength=4.5, headaxislength=4,
        )  # fmt: skip
        return image

    def _histogram(self) -> NDArray[np.float64]:
        """The density, [_BINS, _BINS], rows from below."""
        counts, _, _ = np.histogram2d(*self._truth[:, :2].T, bins=_BINS, range=self._bounds[:2])
        return gaussian_filter(counts.T, _SMOOTHING)

    def _middles(self, cells: int) -> list[NDArray[np.float64]]:
        """Of cells along each axis, [cells] twice."""
        return [np.linspace(*bounds, 2 * cells + 1)[1::2] for bounds in self._bounds[:2]]

    def _density(self, axes: Axes) -> None:
        self._image(axes, self._smoothed, cmap=TRUTH, norm=PowerNorm(0.5, 0, float(self._smoothed.max())))

    def _image(self, axes: Axes, values: NDArray, *, cmap: str | Colormap, norm: Normalize) -> AxesImage:
        (left, right), (bottom, top) = self._bounds[:2]
        extent = (left, right, bottom, top)
        return axes.imshow(values, extent=extent, origin="lower", cmap=cmap, norm=norm, interpolation="bilinear")

    def _square(self, figure: Figure, place: tuple[float, float, float, float]) -> Axes:
        axes = figure.add_axes(place)
        axes.set(xlim=self._bounds[0], ylim=self._bounds[1], aspect="equal")
        axes.tick_params(labelsize=8)
        return axes


def _array(points: Tensor) -> NDArray[np.float64]:
    """Points [N, D], of those that are numbers."""
    values = points.detach().cpu().double().numpy()
    return values[np.isfinite(values).all(1)]


def _density(values: NDArray, edges: NDArray) -> NDArray:
    """A histogram the area of which is the share of the values that lie in it."""
    return np.histogram(values, edges)[0] / max(len(values), 1) / np.diff(edges)


def _figure(width: float, height: float) -> Figure:
    """Of so many hundreds of pixels, without pyplot, whose figures are global."""
    figure = Figure(figsize=(width, height), dpi=100)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=11, y=0.985)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
