"""Perfetto's trace format, as much of it as a timeline needs: tracks, slices, counters, flows.

The format is protobuf; field numbers are those of perfetto/protos/perfetto/trace (trace_packet.proto,
track_event/track_event.proto, track_descriptor.proto, debug_annotation.proto), which are stable. Tests read
what is written here with the classes that Perfetto generates from these files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import count
from struct import pack
from typing import Literal

_VARINT, _FIXED64, _LENGTH = 0, 1, 2
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4
_UNITS = {"count": 2, "bytes": 3}
_STATE_CLEARED = 1

Unit = Literal["count", "bytes"]
Arguments = Mapping[str, int | str]


class TraceWriter:
    """Collects packets. Times are nanoseconds.

    Events of one track are written in the order of their time; of events at the same time the one that was
    written first comes first. Slices of a track nest.
    """

    def __init__(self) -> None:
        self._packets = bytearray()
        self._uuids = count(1)
        self._names: dict[str, bytes] = {}
        self._packet(_number(13, _STATE_CLEARED))

    def __bytes__(self) -> bytes:
        return bytes(self._packets)

    def group(self, name: str, rank: int) -> int:
        """A group of tracks, shown as a process; groups are shown by rank."""
        process = _number(1, rank) + _text(6, name)
        return self._track(_bytes(3, process) + _number(12, rank))

    def track(self, name: str, parent: int) -> int:
        """A track for slices, in a group or below another track."""
        return self._track(_text(2, name) + _number(5, parent))

    def counter(self, name: str, parent: int, unit: Unit) -> int:
        """A track for the values of a counter."""
        return self._track(_text(2, name) + _number(5, parent) + _bytes(8, _number(3, _UNITS[unit])))

    def begin(
        self,
        track: int,
        time_ns: int,
        name: str,
        arguments: Arguments | None = None,
        flows: Sequence[int] = (),
        last_flows: Sequence[int] = (),
    ) -> None:
        """A slice begins. Arrows lead from slice to slice of a flow; the flows of `last_flows` end here."""
        more = b"".join(_annotation(*pair) for pair in (arguments or {}).items())
        more += b"".join(_fixed64(47, flow) for flow in flows)
        more += b"".join(_fixed64(48, flow) for flow in last_flows)
        self._event(_BEGIN, track, time_ns, self._name(name) + more)

    def end(self, track: int, time_ns: int) -> None:
        """The innermost slice that is open on the track ends."""
        self._event(_END, track, time_ns, b"")

    def instant(self, track: int, time_ns: int, name: str) -> None:
        """Something without a duration."""
        self._event(_INSTANT, track, time_ns, self._name(name))

    def values(self, track: int, times_ns: Iterable[int], values: Iterable[int]) -> None:
        """What a counter is from each time on."""
        for time_ns, value in zip(times_ns, values, strict=True):
            self._event(_COUNTER, track, time_ns, _number(30, value))

    def _track(self, body: bytes) -> int:
        uuid = next(self._uuids)
        self._packet(_bytes(60, _number(1, uuid) + body))
        return uuid

    def _event(self, kind: int, track: int, time_ns: int, more: bytes) -> None:
        event = _head(kind, track) + more
        self._packet(_TIMESTAMP + _varint(time_ns) + _TRACK_EVENT + _varint(len(event)) + event)

    def _packet(self, body: bytes) -> None:
        self._packets += _PACKET + _varint(len(body) + len(_SEQUENCE)) + body + _SEQUENCE

    def _name(self, name: str) -> bytes:
        field = self._names.get(name)
        if field is None:
            field = self._names[name] = _text(23, name)
        return field


@lru_cache(maxsize=10_000)
def _head(kind: int, track: int) -> bytes:
    return _number(9, kind) + _number(11, track)


@lru_cache(maxsize=10_000)
def _annotation(name: str, value: int | str) -> bytes:
    body = _number(4, value) if isinstance(value, int) else _text(6, value)
    return _bytes(4, _text(10, name) + body)


def _groups(continued: int) -> list[bytes]:
    """Two groups of seven bits, the lower one first, for every number of 14 bits."""
    return [bytes((low | 0x80, high | continued)) for high in range(128) for low in range(128)]


_MORE = _groups(0x80)
_LAST = [bytes((value,)) for value in range(128)] + _groups(0)[128:]


def _varint(value: int) -> bytes:
    """A signed or unsigned 64-bit integer, seven bits a byte; negative ones take ten bytes."""
    if 0 <= value < 0x4000:
        return _LAST[value]
    value &= 0xFFFF_FFFF_FFFF_FFFF
    groups = []
    while value >= 0x4000:
        groups.append(_MORE[value & 0x3FFF])
        value >>= 14
    groups.append(_LAST[value])
    return b"".join(groups)


def _number(field: int, value: int) -> bytes:
    return _LAST[field << 3 | _VARINT] + _varint(value)


def _fixed64(field: int, value: int) -> bytes:
    return _LAST[field << 3 | _FIXED64] + pack("<Q", value)


def _bytes(field: int, value: bytes | bytearray) -> bytes:
    return _LAST[field << 3 | _LENGTH] + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode("utf-8", "replace"))


_PACKET, _TIMESTAMP, _TRACK_EVENT = (
    b"\x0a",
    b"\x40",
    b"\x5a",
)  # Trace 1; TracePacket 8 and 11, with wire types
_SEQUENCE = _number(10, 1)  # TracePacket.trusted_packet_sequence_id
