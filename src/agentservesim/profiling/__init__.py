"""Profiling: operator tables measured on the user's own accelerator."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from agentservesim.cost.models import Model
from agentservesim.model import InputError
from agentservesim.profiling.collectives import all_reduce
from agentservesim.profiling.devices import Device, open_device
from agentservesim.profiling.operators import Grid, Profiler

__all__ = ["Device", "Grid", "Profiler", "link_of", "open_device", "profile"]

Row = tuple[object, ...]


def profile(
    model: Model,
    device: Device,
    out: Path,
    *,
    ranks: int = 1,
    grid: Grid | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Path:
    """Measure a model's operators and write a folder of tables that `--tables` reads.

    The folder `out` must not exist yet; it is there whole or not at all. `progress` is told the file in
    work and the rows it has. Raises InputError for a model whose layers the tables cannot hold, and for a
    folder that cannot be made.
    """
    if out.exists():
        raise InputError(f"{out}: is there already; give --out a new folder")
    chosen = grid or Grid()
    work = Profiler(model, ranks, device, chosen)
    files: list[tuple[str, str, Callable[[], Iterable[Row]]]] = [
        ("dense.csv", "layer,tokens,time_us", work.dense),
        ("per_sequence.csv", "layer,sequences,time_us", work.per_sequence),
        ("attention.csv", "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us", work.attention),
        ("copies.csv", "direction,block_bytes,blocks,time_us", work.copies),
    ]
    if model.sparse:
        files.append(("moe.csv", "tokens,activated_experts,time_us", work.experts))
    if device.peers > 1:
        between = partial(all_reduce, device.peers)
        files.append(("collectives.csv", "operation,ranks,bytes,time_us", between))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise InputError(f"{out}: cannot be made: {error.strerror}") from None
    try:
        for name, header, rows in files:
            _write(folder / name, header, rows(), progress)
        meta = {
            "model": model.name,
            "device": device.name,
            "library": device.library,
            "tensor_parallel_size": ranks,
            "grid": asdict(chosen),
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
        folder.chmod(0o755)
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out


def link_of(folder: Path, direction: str) -> tuple[float, float]:
    """Bandwidth in bytes/s and overhead of a copy in seconds, fitted to the copies of a profile.

    The time of a copy is taken to be overhead + bytes / bandwidth (least squares of relative errors).
    """
    with (folder / "copies.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["direction"] == direction]
    blocks = np.array([float(row["blocks"]) for row in rows])
    moved = blocks * np.array([float(row["block_bytes"]) for row in rows])
    took = np.array([float(row["time_us"]) for row in rows]) * 1e-6
    terms = np.stack([blocks / took, moved / took], axis=1)
    (overhead_s, per_byte_s), *_ = np.linalg.lstsq(terms, np.ones(len(rows)), rcond=None)
    return 1.0 / max(float(per_byte_s), 1e-15), max(float(overhead_s), 0.0)


def _write(path: Path, header: str, rows: Iterable[Row], progress: Callable[[str, int], None] | None) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split(","))
        for number, row in enumerate(rows, 1):
            writer.writerow([*row[:-1], f"{row[-1]:.3f}"])
            if progress is not None:
                progress(path.name, number)
