"""What a reader has to be told about a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Format = Literal["auto", "canonical", "compact", "mooncake"]
Lengths = Literal["cumulative", "delta"]
HashScope = Literal["auto", "program", "file"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to understand a trace file; `WorkloadConfig` documents each field."""

    format: Format = "auto"
    lengths: Lengths | None = None
    trace_block_size: int | None = None
    hash_scope: HashScope = "auto"
    reuse_output: bool = True
