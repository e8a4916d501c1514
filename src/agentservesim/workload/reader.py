"""Reading a trace file of any known format."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path

from agentservesim.model import Workload
from agentservesim.workload import canonical
from agentservesim.workload.canonical import read_canonical
from agentservesim.workload.compact import read_compact
from agentservesim.workload.mooncake import read_mooncake
from agentservesim.workload.options import Format, ReadOptions
from agentservesim.workload.rows import Row, fault, read_rows

HEAD_ROWS = 64


def read_trace(path: str | Path, options: ReadOptions | None = None) -> Workload:
    """Read a trace file, plain or gzip.

    Raises InputError, with file and line, for anything that cannot be understood.
    """
    options = options or ReadOptions()
    name = str(path)
    rows = read_rows(Path(path), name)
    head = list(islice(rows, HEAD_ROWS))
    if not head:
        raise fault(name, 1, "the file is empty; a trace has one JSON object a line")
    everything = chain(head, rows)
    match detect(head) if options.format == "auto" else options.format:
        case "mooncake":
            return read_mooncake(everything, name, options)
        case "compact":
            return read_compact(everything, name, options)
        case _:
            return read_canonical(everything, name, options)


def detect(head: list[Row]) -> Format:
    """The format of a trace, from the names of the fields in its first rows."""
    first = head[0]
    if "schema" in first:
        return "canonical"
    if "turns" in first:
        return "compact"
    names = set[str]().union(*(row.keys() for row in head))
    if names & (canonical.V1_FIELDS - {"timestamp", "delay"} | canonical.V2_FIELDS | canonical.OWN_FIELDS):
        return "canonical"
    if "input_length" in names:
        return "mooncake"
    raise first.error(
        "the format is not recognised: a canonical row has request_id and input_length, a Mooncake row "
        "timestamp, input_length and hash_ids, a compact one program_id and turns"
    )
