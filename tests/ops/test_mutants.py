"""Copies of the sources with one planted error each, compiled where they are C++: the tests must find every one."""

import shutil
from dataclasses import dataclass

import pytest

from .tree import Tree

OPS = ("tests/ops/test_table.py", "-k", "test_operator and not compiles and (float64 or float32)")
HOST = ("tests/ops/test_cuda_on_host.py",)
NORM = ("tests/ops/test_batch_norm_leaky_relu.py",)
LAYERS = ("tests/unit/test_upsampling.py",)
PULLBACK = ("tests/unit/test_pullback.py", "-k", "free_samples")


@dataclass(frozen=True)
class Mutant:
    """`old`, which stands once in the file, becomes `new`; the tests find it with this instruction set."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = OPS
    capability: str = "avx512"


INTERPRETED = [
    Mutant(
        "mask",
        "bigan/pullback/nodes.py",
        "None, bits, slope, channels_last, sums)",
        "None, bits, 1.0, channels_last, sums)",
        PULLBACK,
    ),
    Mutant("bias of held samples", "bigan/pullback/nodes.py", "rows = sums if ctx.sums else None", "rows = None", PULLBACK),
    Mutant("bias of free samples", "bigan/pullback/trace.py", "self.add_free(wide(free) @ wide(bias))", "pass", PULLBACK),
    Mutant(
        "sign", "bigan/pullback/nodes.py", "row_combine(u, None, images, held)", "row_combine(u, None, images, -held)", PULLBACK
    ),
    Mutant("another's sample", "bigan/pullback/nodes.py", "free, c)\n    return x", "free, c.flip(0))\n    return x", PULLBACK),
    Mutant(
        "bias gradient",
        "bigan/ops/bias_leaky_relu.py",
        "sums.sum(0) if",
        "-sums.sum(0) if",
        ("tests/ops/test_bias_leaky_relu.py",),
    ),
    Mutant("gradient through the variance", "bigan/ops/batch_norm_leaky_relu.py", "r * r * -0.5", "r * -0.5", NORM),
    Mutant("gradient through the mean", "bigan/ops/batch_norm_leaky_relu.py", "b = -a * mean", "b = a * mean", NORM),
    Mutant("second order", "bigan/ops/affine_leaky_relu.py", "needs_x and s is not None, needs", "False, needs", NORM),
    Mutant("folded kernel", "bigan/networks/upsampling.py", "third, second + third", "third, second - third", LAYERS),
    Mutant("running variance", "bigan/norms.py", "count / max(count - 1, 1)", "1.0", LAYERS),
]
ON_HOST = [
    Mutant("mask", "csrc/bias_leaky_relu.h", "return bit ? g : g * slope;", "return bit ? g * slope : g;", HOST),
    Mutant("sign", "csrc/bias_leaky_relu.h", "return z > A(0);", "return z < A(0);", HOST),
    Mutant("bias", "csrc/cuda/mask_multiply.cuh", "product[k] + addend[k]", "product[k] - addend[k]", HOST),
    Mutant("shift of the bits", "csrc/bias_leaky_relu.h", "(i & 7)", "(i & 3)", HOST),
    Mutant("place of the copies", "csrc/affine_leaky_relu.h", "2 * (pixel + line * up.width)", "2 * (pixel + line)", HOST),
    Mutant("pivot", "csrc/cuda/channel_moments.cuh", "*mean = pivot + shift;", "*mean = pivot;", HOST),
]
COMPILED = [
    Mutant("next line of copies", "csrc/affine_leaky_relu.h", "at += up.below();", "at += up.right();"),
    Mutant("mask", "csrc/cpu/vec8.h", "static_cast<__mmask8>(~bits), v", "static_cast<__mmask8>(bits), v"),
    Mutant("mask, AVX2", "csrc/cpu/vec8.h", "_CMP_GT_OQ", "_CMP_LT_OQ", capability="avx2"),
    Mutant("kink, portable", "csrc/bias_leaky_relu.h", "return z > A(0);", "return z >= A(0);", capability="default"),
    Mutant("bias", "csrc/cpu/bias_leaky_relu_kernels.inc", "return x.plus(V::fill(bias));", "return x;"),
    Mutant("tail", "csrc/cpu/bias_leaky_relu_kernels.inc", "signs & ((1u << (end - i)) - 1)", "signs"),
    Mutant(
        "copies",
        "csrc/cpu/affine_leaky_relu_kernels.inc",
        ".times(scale.at(k, n)).plus(shift.at(k, n)).activated",
        ".times(scale.at(k, n)).activated",
    ),
    Mutant("sign", "csrc/cpu/rows_kernels.inc", "return first.plus(V::load(b + at).times(betas));", "return first;"),
    Mutant("shift", "csrc/cpu/affine_backward_kernels.inc", "if (shifts) to = to.plus(shift.at(k, n));", ""),
    Mutant("square", "csrc/cpu/channel_moments_kernels.inc", "squares.plus(d.times(d))", "squares.plus(d)"),
]


def survives(tree: Tree, mutant: Mutant) -> str | None:
    """What pytest said, where it was content."""
    path = tree.folder / mutant.file
    source = path.read_text()
    assert source.count(mutant.old) == 1, f"{mutant.file} holds {mutant.old!r} {source.count(mutant.old)} times"
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        if mutant in COMPILED:
            tree.build()
        done = tree.test(*mutant.tests, BIGAN_CPU_CAPABILITY=mutant.capability)
    finally:
        path.write_text(source)
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]  # 1: tests failed, and nothing else went wrong
    return done.stdout if done.returncode == 0 else None


@pytest.fixture(scope="module")
def built(tree: Tree) -> Tree:
    """With the kernels of the tree that is tested, which interpreted mutants need not compile again."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    tree.copy_kernels()
    return tree


@pytest.mark.parametrize("mutant", [*INTERPRETED, *ON_HOST], ids=lambda mutant: f"{mutant.file}: {mutant.name}")
def test_the_error_is_found(built: Tree, mutant: Mutant) -> None:
    assert survives(built, mutant) is None


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mutant", COMPILED, ids=lambda mutant: f"{mutant.file}: {mutant.name}")
def test_the_compiled_error_is_found(built: Tree, mutant: Mutant) -> None:
    assert survives(built, mutant) is None


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_without_an_error_the_tests_pass(built: Tree) -> None:
    """The copy itself is in order: what fails above fails for its error."""
    built.build()
    for tests in (OPS, HOST, PULLBACK, NORM, LAYERS):
        done = built.test(*tests)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
