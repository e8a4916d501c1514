"""The folder of a run: written beside its place, then moved there whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from re import fullmatch

import orjson
import polars as pl

from agentservesim.model import InputError
from agentservesim.results.memory_tables import MEMORY_COLUMNS
from agentservesim.results.metrics import METRICS
from agentservesim.results.summary import Summary
from agentservesim.results.tables import COLUMNS

_ROWS = {"residency": "tier and moment", "links": "link and direction"}
_OF_MEMORY = ("transfers", "residency", "instances", "links")
SUMMARY, GUIDE = "summary.json", "README.md"
PARTIAL = ".partial"


def check_target(folder: Path) -> None:
    """Raise InputError unless a run may be written to `folder`: it is new, empty or an earlier run."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; --out needs the name of a folder")
    if folder.is_dir() and any(folder.iterdir()) and not _is_run(folder):
        raise InputError(f"{folder}: holds files that are not a run of agentservesim; choose a new folder")
    for parent in folder.absolute().parents:
        if parent.exists():
            if not parent.is_dir() or not os.access(parent, os.W_OK):
                raise InputError(f"{folder}: cannot be made: {parent} is not a folder that can be written to")
            return


def partial_of(folder: Path) -> Path:
    """Where what a run computed is kept if it fails."""
    return folder.with_name(f"{folder.name}{PARTIAL}")


def write(folder: Path, summary: Summary, tables: Mapping[str, pl.DataFrame]) -> None:
    """Write a run: all of it, or nothing. An earlier run in `folder` is replaced.

    Raises InputError if the folder is not a run's, or the disk does not take it.
    """
    check_target(folder)
    place = folder.absolute()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}") from None
    try:
        for name, table in tables.items():
            write_table(table, draft / f"{name}.parquet")
        (draft / GUIDE).write_text(_guide(summary, tables), encoding="utf-8")
        (draft / SUMMARY).write_bytes(to_json(summary))
        draft.chmod(0o755)
        _replace(place, draft)
    except OSError as error:
        raise InputError(f"{folder}: could not be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Write a table as Parquet. Raises OSError, also where polars has an error of its own for a full disk."""
    try:
        table.write_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise OSError(f"{error} (is the disk full?)") from None


def to_json(content: Mapping[str, object]) -> bytes:
    """A summary, or what else is kept beside tables, as a file to be read by people too."""
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _meaning(table: str, row: str, column: str) -> str:
    known = ({**COLUMNS, **MEMORY_COLUMNS} if table in _OF_MEMORY else COLUMNS).get(column)
    if known is None and (tier := fullmatch(r"cached_(.+)_tokens", column)):
        return f"of the cached tokens, those in {tier[1]} and no faster tier"
    formulas = {metric.name: metric.formula for metric in METRICS}
    return known or f"= {formulas[f'{row}.{column}']}"


def _replace(folder: Path, draft: Path) -> None:
    if not folder.exists():
        draft.rename(folder)
        return
    old = draft.with_name(draft.name + ".old")
    folder.rename(old)
    try:
        draft.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def _is_run(folder: Path) -> bool:
    try:
        return "schema_version" in orjson.loads((folder / SUMMARY).read_bytes())
    except (OSError, ValueError):
        return False


def _guide(summary: Summary, tables: Mapping[str, pl.DataFrame]) -> str:
    """The README.md of a run folder: what each file and column is."""
    end = summary["simulated_s"] or 0.0
    lines = [f"# A run of agentservesim: {summary['scenario']['name']}", ""]
    if "incomplete" in summary:
        lines += [
            "**This run is incomplete.** It was ended by",
            "",
            f"> {summary['incomplete']}",
            "",
            "`turns.parquet` has the turns that were served until then. Programs, and every metric but those "
            "of turns and KV, are of the programs that had run to their end.",
            "",
        ]
    lines += [
        f"{tables['programs'].height:,} programs, {tables['turns'].height:,} turns, {end:.1f} s simulated,"
        f" seed {summary['seed']}. `summary.json` holds the metrics, the scenario as it was run (every"
        " default spelled out) and where its numbers come from.",
        "",
        "Times are in seconds from the start of the simulated clock. In Python: "
        "`polars.read_parquet('turns.parquet')`.",
    ]
    for name, table in tables.items():
        row = _ROWS.get(name, name[:-1])
        lines += ["", f"## {name}.parquet: one row per {row}, {table.height:,} rows", ""]
        lines += ["| column | meaning |", "|---|---|"]
        lines += [f"| {column} | {_meaning(name, row, column)} |" for column in table.columns]
    lines += [
        "",
        "## Metrics in summary.json",
        "",
        "| metric | unit | formula | meaning |",
        "|---|---|---|---|",
    ]
    lines += [f"| {m.name} | {m.unit} | {m.formula or ''} | {m.meaning} |" for m in METRICS]
    return "\n".join(lines) + "\n"
