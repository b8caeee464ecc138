"""A critic's logits and their gradients at the images, both differentiable once, at the cost of a first-order step.

A critic of linear maps and leaky ReLUs is, around almost every image, an affine function: h_l = m_l ⊙ (W_l h_{l-1} + b_l)
with masks m_l that the forward knows. The pullback of a unit seed, g_{l-1} = W_lᵀ(m_l ⊙ g_l), ends in the gradient g_0 at the
image, and

    D(x) = ⟨g_0, x⟩ + Σ_l ⟨m_l ⊙ g_l, b_l⟩.

So the forward runs unrecorded and keeps a bit an activation; autograd records the pullback alone; and the logits hang on it
by a node whose value is the forward's and whose derivative is that of the line above. The backward of any loss of (logits,
gradient) is then one tangent pass and the weights' gradients: four passes of convolutions in all, where a double backward
takes six to nine.

`record` does it; `obstacle` says why it cannot. `affine` teaches it another layer in one line, `linear` a map whose adjoint one
writes, `kind` anything else; `verify` tests them.
"""

from bigan.pullback.kinds import affine, kink, linear
from bigan.pullback.record import record, verify
from bigan.pullback.registry import NoPullbackError, kind, obstacle
from bigan.pullback.trace import Cotangent, Pull, Trace, row_products

__all__ = [
    "Cotangent",
    "NoPullbackError",
    "Pull",
    "Trace",
    "affine",
    "kind",
    "kink",
    "linear",
    "obstacle",
    "record",
    "row_products",
    "verify",
]
