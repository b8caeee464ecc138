"""p(x | output): what a decoder's output says of samples, as settings. Images lie in [-1, 1]."""

import math
from typing import Annotated, Literal

import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor

from bigan.settings import BY_KIND, Count, Positive, settings

Shape = tuple[int, ...]


@settings
class Gaussian:
    """Normal values around the output, each on its own and all of one standard deviation.

    Attributes:
        std: in units of the data. -log p is the squared error over 2 std², but for a constant.
    """

    kind: Literal["gaussian"] = "gaussian"
    std: Positive = 1.0

    def output(self, shape: Shape) -> Shape:
        """The shape of the output for samples of a shape."""
        return shape

    @property
    def bounded(self) -> bool:
        """Whether the output is itself a sample, and so within the bounds of images."""
        return True

    def nll(self, output: Tensor, samples: Tensor) -> Tensor:
        """-log p(samples | output) in nats, [N]; a density."""
        constant = math.log(self.std) + math.log(2 * math.pi) / 2
        return ((samples - output).square() / (2 * self.std**2) + constant).flatten(1).sum(1)

    def centre(self, output: Tensor) -> Tensor:
        """The mean."""
        return output


@settings
class Bernoulli:
    """Grey values of an image as probabilities of white; the output are logits (Kingma & Welling, 2014, appendix C.1)."""

    kind: Literal["bernoulli"] = "bernoulli"

    def output(self, shape: Shape) -> Shape:
        """The shape of the output for samples of a shape."""
        return shape

    @property
    def bounded(self) -> bool:
        """Whether the output is itself a sample, and so within the bounds of images."""
        return False

    def nll(self, output: Tensor, samples: Tensor) -> Tensor:
        """The cross-entropy in nats, [N]; -log p of images that are black and white."""
        white = (samples + 1) / 2
        return F.binary_cross_entropy_with_logits(output, white, reduction="none").flatten(1).sum(1)

    def centre(self, output: Tensor) -> Tensor:
        """The mean."""
        return (output / 2).tanh()  # 2 sigmoid(output) - 1


@settings
class Categorical:
    """Each value is one of a few levels, evenly spaced in [-1, 1]; the output are their logits. Takes discrete data.

    Attributes:
        levels: how many; 256 are all of an image's. Samples are rounded to the nearest.
    """

    kind: Literal["categorical"] = "categorical"
    levels: Annotated[Count, Ge(2), Le(256)] = 256

    def output(self, shape: Shape) -> Shape:
        """The shape of the output for samples of a shape: a level's logits lie beside each other on the first axis."""
        return (self.levels * shape[0], *shape[1:])

    @property
    def bounded(self) -> bool:
        """Whether the output is itself a sample, and so within the bounds of images."""
        return False

    def nll(self, output: Tensor, samples: Tensor) -> Tensor:
        """-log p(samples | output) in nats, [N]; a probability."""
        level = ((samples + 1) / 2 * (self.levels - 1)).round().long()
        return F.cross_entropy(self._logits(output), level, reduction="none").flatten(1).sum(1)

    def centre(self, output: Tensor) -> Tensor:
        """The most probable level of each value."""
        return self._logits(output).argmax(1).to(output.dtype) * (2 / (self.levels - 1)) - 1

    def _logits(self, output: Tensor) -> Tensor:
        """[N, levels · C, …] → [N, levels, C, …]."""
        return output.unflatten(1, (self.levels, -1))


Likelihood = Annotated[Gaussian | Bernoulli | Categorical, BY_KIND]
