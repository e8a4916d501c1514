"""What operators are timed on: numpy on the processor, or PyTorch on whatever it reaches.

Arrays are the device's own and opaque here; shapes are (rows, columns) for matrices and
(batch, heads, tokens, head size) for attention.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from agentservesim.lookup import did_you_mean
from agentservesim.model import InputError

Array = Any
"""An array of the device."""

WARM_UPS = 3
REPEATS = 7


class Device(Protocol):
    """An accelerator, or a stand-in for one, that can run and time a model's operators."""

    @property
    def name(self) -> str:
        """What it is."""

    @property
    def library(self) -> str:
        """What it is driven with, and its version."""

    @property
    def number_bytes(self) -> int:
        """Bytes of a number in its arrays."""

    @property
    def peers(self) -> int:
        """GPUs of this machine that can work together, itself included."""

    def array(self, *shape: int) -> Array:
        """Numbers of no importance."""

    def time_us(self, work: Callable[[], object]) -> float:
        """Median microseconds that `work` takes, after warming up."""

    def matmul(self, a: Array, b: Array) -> Array:
        """A product of matrices, or of batches of them."""

    def norm(self, x: Array) -> Array:
        """RMS norm of the last axis."""

    def gate(self, x: Array) -> Array:
        """SiLU of one half of the last axis, times the other."""

    def rotate(self, x: Array, angles: Array) -> Array:
        """Rotary embedding of the last axis."""

    def look_up(self, table: Array, count: int) -> Array:
        """`count` rows of a table."""

    def sample(self, logits: Array) -> Array:
        """The most likely token of each row."""

    def attend(self, q: Array, k: Array, v: Array, causal: bool) -> Array:
        """Softmax attention; with `causal` the last query sees all keys, the one before it all but one."""

    def host_array(self, *shape: int) -> Array:
        """Memory of the host that copies may run to and from."""

    def copy(self, source: Array, target: Array) -> None:
        """Copy the array; the host need not wait for it."""


class NumpyDevice:
    """The processor, by numpy, in single precision: to try the profiler out, not to price an accelerator."""

    name = "cpu"
    library = f"numpy {np.__version__}"
    number_bytes = 4
    peers = 1

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def array(self, *shape: int) -> Array:
        """Numbers of no importance."""
        return self._random.standard_normal(shape, dtype=np.float32)

    def time_us(self, work: Callable[[], object]) -> float:
        """Median microseconds that `work` takes, after warming up."""
        return _median_us(work)

    def matmul(self, a: Array, b: Array) -> Array:
        """A product of matrices, or of batches of them."""
        return a @ b

    def norm(self, x: Array) -> Array:
        """RMS norm of the last axis."""
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)

    def gate(self, x: Array) -> Array:
        """SiLU of one half of the last axis, times the other."""
        gate, up = np.split(x, 2, axis=-1)
        return gate / (1 + np.exp(-gate)) * up

    def rotate(self, x: Array, angles: Array) -> Array:
        """Rotary embedding of the last axis."""
        first, second = np.split(x, 2, axis=-1)
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def look_up(self, table: Array, count: int) -> Array:
        """`count` rows of a table."""
        return table[np.arange(count) * 7919 % len(table)]

    def sample(self, logits: Array) -> Array:
        """The most likely token of each row."""
        return logits.argmax(axis=-1)

    def attend(self, q: Array, k: Array, v: Array, causal: bool) -> Array:
        """Softmax attention; with `causal` the last query sees all keys, the one before it all but one."""
        shared = q.shape[1] // k.shape[1]
        keys, values = (np.repeat(x, shared, axis=1) for x in (k, v))
        scores = q @ keys.swapaxes(-1, -2) / q.shape[-1] ** 0.5
        if causal:
            queries, known = scores.shape[-2:]
            scores = np.where(np.tri(queries, known, known - queries, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True) @ values

    def host_array(self, *shape: int) -> Array:
        """Memory of the host that copies may run to and from."""
        return self.array(*shape)

    def copy(self, source: Array, target: Array) -> None:
        """Copy the array."""
        np.copyto(target, source)


class TorchDevice:
    """A device of PyTorch, in bfloat16: `cuda`, `cuda:1`, `cpu`."""

    number_bytes = 2

    def __init__(self, kind: str) -> None:
        try:
            import torch
        except ImportError:
            raise InputError(
                f"profile: device '{kind}' needs PyTorch; install it with the extra 'profile', "
                "or try the profiler out with --device numpy"
            ) from None
        try:
            self._device = torch.device(kind)
            torch.zeros(1, device=self._device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"profile: device '{kind}' cannot be used: {reason}") from None
        self._torch = torch
        self.peers = torch.cuda.device_count() if self._device.type == "cuda" else 1
        self._on_gpu = self._device.type == "cuda"
        self._flush = self.array(1 << 26) if self._on_gpu else None  # larger than any L2 cache
        self.library = f"torch {torch.__version__}"
        self.name = torch.cuda.get_device_name(self._device) if self._on_gpu else "cpu"

    def array(self, *shape: int) -> Array:
        """Numbers of no importance."""
        return self._torch.randn(*shape, device=self._device, dtype=self._torch.bfloat16)

    def time_us(self, work: Callable[[], object]) -> float:
        """Median microseconds that `work` takes, after warming up; caches are emptied before each time."""
        with self._torch.inference_mode():
            if not self._on_gpu:
                return _median_us(work)
            return self._events_us(work)

    def _events_us(self, work: Callable[[], object]) -> float:
        cuda = self._torch.cuda
        for _ in range(WARM_UPS):
            work()
        times = []
        for _ in range(REPEATS):
            assert self._flush is not None
            self._flush.zero_()
            begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
            begin.record()
            work()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) * 1e3)
        return float(statistics.median(times))

    def matmul(self, a: Array, b: Array) -> Array:
        """A product of matrices, or of batches of them."""
        return a @ b

    def norm(self, x: Array) -> Array:
        """RMS norm of the last axis."""
        return self._torch.nn.functional.rms_norm(x, x.shape[-1:])

    def gate(self, x: Array) -> Array:
        """SiLU of one half of the last axis, times the other."""
        gate, up = x.chunk(2, dim=-1)
        return self._torch.nn.functional.silu(gate) * up

    def rotate(self, x: Array, angles: Array) -> Array:
        """Rotary embedding of the last axis."""
        first, second = x.chunk(2, dim=-1)
        cos, sin = angles.cos(), angles.sin()
        return self._torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    def look_up(self, table: Array, count: int) -> Array:
        """`count` rows of a table."""
        rows = self._torch.arange(count, device=self._device) * 7919 % len(table)
        return table[rows]

    def sample(self, logits: Array) -> Array:
        """The most likely token of each row."""
        return logits.argmax(dim=-1)

    def attend(self, q: Array, k: Array, v: Array, causal: bool) -> Array:
        """Softmax attention; with `causal` the last query sees all keys, the one before it all but one."""
        mask = None
        if causal:
            from torch.nn.attention.bias import causal_lower_right

            mask = causal_lower_right(q.shape[-2], k.shape[-2])
        return self._torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1]
        )

    def host_array(self, *shape: int) -> Array:
        """Pinned memory of the host."""
        return self._torch.empty(*shape, dtype=self._torch.bfloat16, pin_memory=self._on_gpu)

    def copy(self, source: Array, target: Array) -> None:
        """Copy the array; the host does not wait for it."""
        target.copy_(source, non_blocking=True)


def open_device(kind: str) -> Device:
    """The device of a name: `numpy`, or one of PyTorch's; `auto` takes the GPU where there is one.

    Raises InputError for a name that is none, and where PyTorch or the device is missing.
    """
    if kind == "numpy":
        return NumpyDevice()
    base = kind.partition(":")[0]
    if base == "auto":
        return TorchDevice("cuda")
    if base not in ("cuda", "cpu"):
        known = ("auto", "cuda", "cpu", "numpy")
        raise InputError(
            f"profile: unknown device '{kind}'{did_you_mean(kind, known)}; known: {', '.join(known)}"
        )
    return TorchDevice(kind)


def _median_us(work: Callable[[], object]) -> float:
    for _ in range(WARM_UPS):
        work()
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter_ns()
        work()
        times.append((time.perf_counter_ns() - begin) / 1e3)
    return statistics.median(times)
