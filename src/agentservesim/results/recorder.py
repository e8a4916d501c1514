"""A listener that keeps what happened as columns of integers."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter, itemgetter
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from agentservesim.kv.ledger import COUNTS
from agentservesim.kv.links import Link, Network
from agentservesim.kv.pool import BlockPool
from agentservesim.kv.residency import Residency, ResidencyRecord, TransferRecord
from agentservesim.model import InputError, StepRecord, TurnRecord
from agentservesim.results.expenses import Use

TURN_NAMES = tuple(f.name for f in fields(TurnRecord) if f.type == "str")
TURN_NUMBERS = tuple(f.name for f in fields(TurnRecord) if f.type == "int")
STEP_NUMBERS = tuple(f.name for f in fields(StepRecord))

_turn_names = attrgetter(*TURN_NAMES)
_turn_numbers = attrgetter(*TURN_NUMBERS)
_step_numbers = attrgetter(*STEP_NUMBERS)

Columns = dict[str, list[str] | NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Pool:
    """The HBM pool of an instance: blocks that can hold tokens, and the bytes of one over all ranks."""

    blocks: int
    block_bytes: int


class Recorder:
    """Keeps every turn, and every step if asked to: 8 bytes a number, one row after the other.

    `tiers` are the names of the tiers below HBM. `pools` and `memories` are there where KV is pinned or
    moved: one each for every instance. `rejected` has the arrivals of programs that admission turned away,
    `uses` what the accelerators did.
    """

    def __init__(self, wants_steps: bool = False, tiers: Sequence[str] = ()) -> None:
        self.wants_steps = wants_steps
        self.tiers = tuple(tiers)
        self.pools: Sequence[Pool] = ()
        self.memories: Sequence[Residency] = ()
        self.network: Network | None = None
        self.clock_ps = 0
        self.rejected: Mapping[str, int] = {}
        self.uses: Sequence[Use] = ()
        self._names: list[tuple[str, ...]] = []
        self._turns = array("q")
        self._loaded = array("q")
        self._nothing = (0,) * len(self.tiers)
        self._scores = array("d")
        self._scored = array("q")
        self._steps = array("q")
        self._transfers = _Records(TransferRecord)
        self._snapshots = _Numbers(2 + COUNTS * (1 + len(self.tiers)))

    def __len__(self) -> int:
        return len(self._names)

    def watch(
        self, memories: Sequence[Residency], pools: Sequence[Pool], network: Network | None = None
    ) -> None:
        """Listen to the memory models of the instances too, and to the network between them."""
        self.memories = memories
        self.network = network
        self.pools = pools if memories else ()
        for memory in memories:
            memory.copies.on_transfer = self._transfers.add
            memory.ledger.on_change = self._snapshots.add

    def turn_done(self, record: TurnRecord) -> None:
        """Keep a finished turn. Raises InputError if its times do not fit 64 bits."""
        _append(self._turns, _turn_numbers(record), record)
        self._names.append(_turn_names(record))
        if self.tiers:
            tokens = record.loaded_tokens
            self._loaded.extend([tokens.get(tier, 0) for tier in self.tiers] if tokens else self._nothing)
        if record.scores:
            self._scored.append(len(self._names) - 1)
            self._scores.extend(record.scores)

    def step_done(self, record: StepRecord) -> None:
        """Keep a step. Raises InputError if its times do not fit 64 bits."""
        _append(self._steps, _step_numbers(record), record)

    def turn_names(self) -> dict[str, list[str]]:
        """The columns of text, in order of completion."""
        return {name: [row[i] for row in self._names] for i, name in enumerate(TURN_NAMES)}

    def turn_numbers(self) -> dict[str, NDArray[np.int64]]:
        """The columns of integers (times in picoseconds), each of shape (turns,), in order of completion."""
        return _columns(self._turns, TURN_NUMBERS)

    def loaded_tokens(self) -> dict[str, NDArray[np.int64]]:
        """For each tier below HBM the tokens that were loaded from it, of shape (turns,)."""
        return _columns(self._loaded, self.tiers)

    def scores(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The turns for which the router said what it made of each instance, by order of completion, and its
        figures, of shape (these turns, instances)."""
        scored = np.array(self._scored, dtype=np.int64)
        return scored, np.array(self._scores).reshape(len(scored), -1 if len(scored) else 0)

    def step_numbers(self) -> dict[str, NDArray[np.int64]]:
        """The columns of the steps (times in picoseconds), each of shape (steps,)."""
        return _columns(self._steps, STEP_NUMBERS)

    def transfers(self) -> Columns:
        """The copies between tiers that ended, in order of their ends; times in picoseconds."""
        return self._transfers.columns()

    def changes(self) -> Columns:
        """What each tier (0 is HBM) held from each moment on, in order of time; times in picoseconds.

        The instance of a shared tier is the first that shares it, whichever changed it.
        """
        snapshots, tiers = self._snapshots.rows(), 1 + len(self.tiers)
        counts = snapshots[:, 2:].reshape(len(snapshots), tiers, COUNTS)
        instances = self._owners()[snapshots[:, 0]]
        new = np.ones((len(snapshots), tiers), dtype=bool)
        for tier in range(tiers):
            order = np.argsort(instances[:, tier], kind="stable")
            owners, held = instances[order, tier], counts[order, tier]
            other = (held[1:] != held[:-1]).any(axis=1) | (owners[1:] != owners[:-1])
            new[order[1:], tier] = other
        row, place = np.nonzero(new)
        times_ps = snapshots[row, 1]
        free, blank, pinned, in_flight = counts[row, place].T
        sizes = np.array([memory.ledger.sizes for memory in self.memories], dtype=np.int64).reshape(-1, tiers)
        active = sizes[snapshots[row, 0], place] - free - pinned - in_flight
        columns = instances[row, place], times_ps, place, active, pinned, free - blank, in_flight, blank
        return dict(zip(ResidencyRecord._fields, columns, strict=True))

    def _owners(self) -> NDArray[np.int64]:
        """For each instance and tier (0 is HBM) the first instance that has the same pool there."""
        first: dict[BlockPool, int] = {}
        owners = [
            [index, *(first.setdefault(tier.pool, index) for tier in memory.tiers)]
            for index, memory in enumerate(self.memories)
        ]
        return np.array(owners, dtype=np.int64).reshape(-1, 1 + len(self.tiers))

    def links(self) -> dict[str, list[Link]]:
        """The physical links by name, in the order of the tiers; the network's are the last."""
        found: dict[str, dict[Link, None]] = {}
        for memory in self.memories:
            for tier in memory.tiers:
                for link in tier.links.values():
                    found.setdefault(link.name, {})[link] = None
        for link in self.network.links if self.network is not None else ():
            found.setdefault(link.name, {})[link] = None
        return {name: list(links) for name, links in found.items()}


class _Numbers:
    """Rows of `width` whole numbers, 8 bytes each."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._pack = struct.Struct(f"{width}q").pack
        self._bytes = bytearray()

    def add(self, row: Sequence[int]) -> bool:
        """Keep a row, unless its times do not fit 64 bits: no turn ends behind it but with an error."""
        try:
            self._bytes += self._pack(*row)
        except struct.error:
            return False
        return True

    def rows(self) -> NDArray[np.int64]:
        """All rows, of shape (rows, width)."""
        return np.array(np.frombuffer(self._bytes, dtype=np.int64)).reshape(-1, self.width)


class _Records:
    """Records of one kind, named tuples of texts and integers."""

    def __init__(self, kind: type[Any]) -> None:
        kinds = get_type_hints(kind)
        self._fields = list(kinds)
        places = [[i for i, name in enumerate(kinds) if kinds[name] is of] for of in (str, int)]
        self._places = [place for part in places for place in part]
        self._texts_of, self._numbers_of = (itemgetter(*part) for part in places)
        self._texts: list[str] = []
        self._numbers = _Numbers(len(places[1]))

    def add(self, record: tuple[Any, ...]) -> None:
        """Keep the values of a record."""
        if self._numbers.add(self._numbers_of(record)):
            self._texts += self._texts_of(record)

    def columns(self) -> Columns:
        """The columns by field."""
        width = len(self._places) - self._numbers.width
        texts = [self._texts[i::width] for i in range(width)]
        numbers = np.ascontiguousarray(self._numbers.rows().T)
        columns = dict(zip(self._places, [*texts, *numbers], strict=True))
        return {name: columns[place] for place, name in enumerate(self._fields)}


def _append(rows: array[int], row: Sequence[int], record: TurnRecord | StepRecord) -> None:
    """Add a whole row, or nothing and an InputError that says whose clock has come too far."""
    size = len(rows)
    try:
        rows.extend(row)
    except OverflowError:
        del rows[size:]
        whose = f"instance {record.instance}"
        if isinstance(record, TurnRecord):
            whose = f"program '{record.program_id}', turn '{record.turn_id}'"
        raise InputError(
            f"{whose}: the simulated clock has passed 106 days; shorten the trace with program_rate, "
            "max_gap_s or max_programs"
        ) from None


def _columns(rows: array[int], names: tuple[str, ...]) -> dict[str, NDArray[np.int64]]:
    table = np.array(rows, dtype=np.int64).reshape(-1, max(len(names), 1))
    return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(names)}
