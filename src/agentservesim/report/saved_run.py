"""A run folder, read back: its summary, and its tables when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from agentservesim.model import InputError
from agentservesim.results.run_folder import SUMMARY
from agentservesim.results.summary import SCHEMA_VERSION


@dataclass(frozen=True)
class SavedRun:
    """A run as its folder has it. Times are seconds on the simulated clock."""

    folder: Path
    summary: dict[str, Any]
    _tables: dict[str, pl.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """What the scenario calls the run."""
        return str(self.summary["scenario"]["name"])

    @property
    def end_s(self) -> float:
        """When the last token reached its client, whether its program came to an end or not."""
        return float(self.table("turns")["finish_s"].max() or 0.0)  # type: ignore[arg-type]

    def has(self, table: str) -> bool:
        """Whether the run recorded this table."""
        return self._path(table).is_file()

    def table(self, name: str) -> pl.DataFrame:
        """A table of the run, such as turns. Raises InputError if it is not there or cannot be read."""
        if name not in self._tables:
            try:
                self._tables[name] = pl.read_parquet(self._path(name))
            except (OSError, pl.exceptions.PolarsError) as error:
                raise InputError(f"{self._path(name)}: cannot be read: {error}") from None
        return self._tables[name]

    def engines(self) -> list[dict[str, Any]]:
        """Settings, provenance and name of what each index of an instance stands for: an instance, or one
        of its data-parallel engines."""
        groups = zip(
            self.summary["scenario"]["instances"], self.summary["provenance"]["instances"], strict=True
        )
        return [
            {**settings, **group, "name": f"{group['name']}-{number}" + (f".{rank}" if ranks > 1 else "")}
            for settings, group in groups
            for ranks in (settings["data_parallel_size"],)
            for number in range(group["count"])
            for rank in range(ranks)
        ]

    def instance_names(self) -> list[str]:
        """The instances, or their data-parallel engines, in the order of their indices."""
        return [engine["name"] for engine in self.engines()]

    def _path(self, table: str) -> Path:
        return self.folder / f"{table}.parquet"


def by_instance(table: pl.DataFrame) -> dict[int, pl.DataFrame]:
    """The rows of each instance that has any, by its index."""
    parts = table.partition_by("instance", as_dict=True, maintain_order=True)
    return {int(key[0]): rows for key, rows in parts.items()}


def read_run(folder: str | Path) -> SavedRun:
    """Open a run folder. Raises InputError if it is none, or one of a version that is not known here."""
    place = Path(folder)
    try:
        summary = orjson.loads((place / SUMMARY).read_bytes())
    except OSError:
        raise InputError(
            f"{place}: is not a run folder: it has no {SUMMARY}; "
            f"'agentservesim run SOURCE --out {place}' makes one"
        ) from None
    except ValueError as error:
        raise InputError(f"{place / SUMMARY}: is not JSON: {error}") from None
    version = summary.get("schema_version") if isinstance(summary, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{place / SUMMARY}: has schema_version {version!r}, this agentservesim reads {SCHEMA_VERSION}"
        )
    return SavedRun(place, summary)
