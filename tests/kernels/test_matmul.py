"""`matmul` on the CPU: every backend against float64, in every layout, and what it says to bad input."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import BACKENDS, BackendUnavailable, available, matmul
from kernels.accuracy import LAYOUTS, error_share, laid_out
from kernels.choice import TABLE, choose
from kernels.registry import import_error, is_installed, unavailable_reason

CPU = available("cpu")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SIZES = st.integers(1, 40)


LAID = st.sampled_from(LAYOUTS)


@pytest.mark.parametrize("backend", CPU)
@settings(max_examples=15)
@given(st.tuples(SIZES, SIZES, SIZES), st.sampled_from(DTYPES), LAID, LAID, st.integers(0, 2**31))
def test_every_product_is_right_within_its_dtype(
    backend: str, shape: tuple[int, int, int], dtype: torch.dtype, la: str, lb: str, seed: int
) -> None:
    m, k, n = shape
    a, b = laid_out(la, m, k, dtype, seed), laid_out(lb, k, n, dtype, seed + 1)
    c = matmul(a, b, backend)
    assert c.dtype == dtype and c.shape == (m, n)
    assert error_share(c, a, b) <= 1


@pytest.mark.parametrize("shape", [(1030, 300, 70), (257, 513, 129), (3, 700, 500), (500, 784, 10)])
def test_the_blocked_cpu_backend_is_right_across_its_own_blocks(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    for dtype in (torch.float32, torch.float64):
        a, b = laid_out("rows", m, k, dtype, 0), laid_out("columns", k, n, dtype, 1)
        assert error_share(matmul(a, b, "numba"), a, b) <= 1


def test_numbas_pool_leaves_torchs_number_of_threads_as_it_is() -> None:
    # In a process of its own: the pool, which sets OpenMP's number as it starts, starts once.
    program = """import torch; from kernels import matmul; torch.set_num_threads(1); a = torch.ones(8, 8)
matmul(a, a, "numba"); print(torch.get_num_threads())"""
    ran = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"NUMBA_NUM_THREADS": "2"}, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, "1"), ran.stderr


def test_the_error_bound_finds_a_wrong_number() -> None:
    a, b = laid_out("rows", 20, 30, torch.float32, 0), laid_out("rows", 30, 20, torch.float32, 1)
    c = a @ b
    c[3, 4] += 1e-3
    assert error_share(c, a, b) > 1
    c[3, 4] = torch.nan
    assert error_share(c, a, b) == torch.inf


@pytest.mark.parametrize("backend", [*CPU, "auto"])
@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
def test_an_empty_product_has_its_shape_and_is_zero(backend: str, shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    c = matmul(torch.ones(m, k), torch.ones(k, n), backend)
    assert torch.equal(c, torch.zeros(m, n))


@pytest.mark.parametrize("backend", [*CPU, "auto"])
def test_numpy_in_numpy_out(backend: str) -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(4, 3).T
    c = matmul(a, b, backend)
    assert isinstance(c, np.ndarray) and c.dtype == a.dtype
    np.testing.assert_allclose(c, a @ b)


def test_numpy_memory_that_torch_cannot_describe_is_read_all_the_same() -> None:
    a = np.arange(6.0).reshape(2, 3)
    for odd in (a[::-1], a.astype(">f8"), np.asfortranarray(a)):
        np.testing.assert_allclose(matmul(odd, np.eye(3)), odd)
    field = np.zeros((2, 3), dtype=[("number", "f8"), ("flag", "i2")])["number"]  # ten bytes from each number to the next
    field[:] = a
    np.testing.assert_allclose(matmul(field, np.eye(3)), a)


def test_read_only_memory_is_read_without_a_word() -> None:
    a = np.arange(6.0).reshape(2, 3)
    a.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(matmul(a, np.broadcast_to(1.0, (3, 2))), [[3, 3], [12, 12]])


@pytest.mark.parametrize("backend", CPU)
def test_negated_views_are_read(backend: str) -> None:
    a = torch.complex(torch.randn(4, 3), torch.randn(4, 3)).conj().imag
    assert a.is_neg()
    torch.testing.assert_close(matmul(a, torch.eye(3), backend), a.resolve_neg())


@pytest.mark.parametrize("backend", ["auto", "torch", "einsum", "broadcast"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_autocast_rounds_no_product(backend: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(9, 9, generator=generator).to(dtype) for _ in range(2))
    expected = matmul(a, b, backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(matmul(a, b, backend), expected) and expected.dtype == dtype
        with pytest.raises(TypeError, match="one dtype"):
            matmul(a, b.to(torch.float64 if dtype == torch.float32 else torch.float32), backend)
        assert matmul(np.eye(3, dtype=np.float32), np.full((3, 3), 1.001, np.float32))[0, 0] == np.float32(1.001)


def test_auto_gives_torch_s_own_product_and_its_gradient() -> None:
    a, b = torch.randn(5, 6, requires_grad=True), torch.randn(6, 7)
    c = matmul(a, b)
    assert torch.equal(c, a @ b)
    c.sum().backward()
    torch.testing.assert_close(a.grad, b.sum(1).expand(5, 6))


WRONG = [
    (torch.ones(2, 3), torch.ones(4, 5), ValueError, r"cannot multiply \(2, 3\) by \(4, 5\): 3 columns meet 4 rows"),
    (torch.ones(3), torch.ones(3, 3), ValueError, "a must have 2 dimensions, not 1"),
    (torch.ones(2, 2), torch.ones(2, 2, 2), ValueError, "b must have 2 dimensions, not 3"),
    (torch.ones(2, 2), torch.ones(2, 2).double(), TypeError, "one dtype, not float32 and float64"),
    (torch.ones(2, 2).long(), torch.ones(2, 2).long(), TypeError, "a has dtype int64, which matmul does not take"),
    (torch.ones(2, 2), np.ones((2, 2)), TypeError, "both be NumPy arrays or both be torch tensors"),
    ([[1.0]], torch.ones(1, 1), TypeError, "a must be a NumPy array or a torch tensor, not list"),
    (np.ma.masked_greater(np.ones((2, 2)), 0), np.ones((2, 2)), TypeError, "a is a masked array, whose mask .* fill it first"),
    (np.array([["x"]]), np.array([["y"]]), TypeError, "a has dtype <U1, which matmul does not take"),
    (torch.ones(2, 2), torch.ones(2, 2).to_sparse(), TypeError, "b is a sparse tensor"),
    (torch.ones(2, 2), torch.ones(2, 2, device="meta"), TypeError, "on one device, not cpu and meta"),
]
FOR_AUTO = WRONG[:-2]  # what torch multiplies passes, and auto is torch


CALLS = [("torch", *wrong) for wrong in WRONG] + [("numba", *wrong) for wrong in WRONG] + [("auto", *wrong) for wrong in FOR_AUTO]


@pytest.mark.parametrize(("backend", "a", "b", "kind", "sentence"), CALLS)
def test_bad_operands_are_named_in_one_sentence(backend: str, a: object, b: object, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        matmul(a, b, backend)  # type: ignore[type-var]


def test_bad_backends_and_blocks_are_named_in_one_sentence() -> None:
    a = torch.ones(2, 2)
    with pytest.raises(ValueError, match="unknown backend 'blas': choose auto, python"):
        matmul(a, a, "blas")
    with pytest.raises(ValueError, match="backend 'torch' has no block to choose: numba-cuda-naive, numba-cuda-tiled have"):
        matmul(a, a, "torch", block=(16, 16))
    with pytest.raises(ValueError, match="backend 'numba' has no gradient"):
        matmul(a.requires_grad_(), a, "numba")
    with pytest.raises(TypeError, match="backend 'triton' takes float16, bfloat16, float32, not float64"):
        matmul(a.detach().double(), a.detach().double(), "triton")


@pytest.fixture
def no_memory_of_imports() -> Iterator[None]:
    """What was found out about modules is forgotten before and after."""
    for found_out in (import_error, is_installed):
        found_out.cache_clear()
    yield
    for found_out in (import_error, is_installed):
        found_out.cache_clear()


@pytest.mark.usefixtures("no_memory_of_imports")
def test_a_backend_that_cannot_run_here_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendUnavailable, match="'triton' takes cuda tensors, not cpu"):
        matmul(torch.ones(2, 2), torch.ones(2, 2), "triton")
    monkeypatch.setattr("kernels.registry.find_spec", lambda module: None)
    assert (
        unavailable_reason("jax", "cpu") == "backend 'jax' needs jax, which is not installed: pip install 'prompt-inversion[jax]'"
    )
    assert "pip install 'prompt-inversion[gpu]'" in str(unavailable_reason("numba-cuda", "cuda"))
    assert available("cpu") == [name for name in BACKENDS if BACKENDS[name].needs is None]


@pytest.mark.usefixtures("no_memory_of_imports")
def test_a_backend_whose_import_fails_says_so_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(module: str) -> None:
        raise AttributeError("module 'numpy' has no attribute 'row_stack'")

    monkeypatch.setattr("kernels.registry.import_module", fail)
    monkeypatch.setattr("kernels.registry.find_spec", lambda module: object())
    reason = str(unavailable_reason("numba-cuda", "cuda"))
    assert reason.startswith("backend 'numba-cuda' cannot import numba.cuda") and "\n" not in reason
    assert "no attribute 'row_stack'; NumPy" in reason and "pip install --upgrade 'prompt-inversion[gpu]'" in reason
    assert "numba-cuda" not in available("cpu")  # and what takes no CPU tensors is not imported to find that out


def test_jax_is_given_memory_that_begins_at_a_multiple_of_16_bytes() -> None:
    pytest.importorskip("jax")
    from kernels.backends.jax_xla import _to_jax

    odd = torch.arange(13.0)[1:].view(3, 4)
    assert odd.data_ptr() % 16
    array = _to_jax(odd)
    assert array.unsafe_buffer_pointer() % 16 == 0 and array.tolist() == odd.tolist()
    assert torch.equal(matmul(odd, odd.T.contiguous(), "jax"), odd @ odd.T)


def test_auto_takes_what_was_measured_to_be_faster_on_the_card_and_torch_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernels.choice.unavailable_reason", lambda name, device: None)

    def low(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(rows, columns, dtype=dtype, device="meta")

    tall, narrow = low(1 << 19, 784, torch.float32), low(784, 10, torch.float32)
    assert choose(tall, narrow, (9, 0)) == "numba-cuda" and choose(narrow.T, tall.T, (9, 0)) == "numba-cuda"
    assert choose(tall[:50_000], narrow, (9, 0)) == "torch"  # launching would take longer
    assert choose(tall.half(), narrow.half(), (9, 0)) == "triton" and choose(narrow.T.half(), tall.T.half(), (9, 0)) == "torch"
    assert choose(tall, low(784, 17, torch.float32), (9, 0)) == "torch" and choose(tall, narrow, (8, 0)) == "torch"
    assert choose(tall.requires_grad_(), narrow, (9, 0)) == "torch" and choose(torch.ones(99, 9), torch.ones(9, 1)) == "torch"


def test_every_row_of_the_table_names_a_backend_that_takes_its_dtype_and_was_faster() -> None:
    for row in (row for rows in TABLE.values() for row in rows):
        assert row.dtype in BACKENDS[row.backend].dtypes and row.microseconds < row.torch_microseconds
