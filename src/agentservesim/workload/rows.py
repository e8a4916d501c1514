"""Lines of a trace as checked rows: every fault becomes one line that says where and what."""

from __future__ import annotations

import gzip
import math
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from agentservesim.lookup import did_you_mean, nearest
from agentservesim.model import PS_PER_S, InputError

QUANTUM_PS = PS_PER_S // 1_000_000
"""Times in traces are whole microseconds: fine enough to matter to nobody, and exact as JSON numbers."""

MOST_TOKENS = 1_000_000_000
MOST_US = 10**17
MOST_SAID = 250


class Row:
    """One JSON object of a file, read field by field. `InputError` names file, line and field."""

    __slots__ = ("_data", "_part", "file", "line")

    def __init__(self, data: dict[str, Any], file: str, line: int, part: str = "") -> None:
        self._data = data
        self._part = part
        self.file = file
        self.line = line

    def error(self, message: str) -> InputError:
        """An error at this row, for the caller to raise."""
        return fault(self.file, self.line, self._part + message)

    def within(self, part: str) -> Row:
        """The same row, with messages that say which `part` of the line it is."""
        return Row(self._data, self.file, self.line, f"{self._part}{part}: ")

    def __contains__(self, key: str) -> bool:
        return self._data.get(key) is not None

    def keys(self) -> set[str]:
        """Names of the fields that are there."""
        return set(self._data)

    def integer(self, key: str, *, low: int, high: int = MOST_TOKENS) -> int:
        """A required whole number in `low`..`high`."""
        value = self._required(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise self._wrong(key, value, "a whole number")
        if not low <= value <= high:
            raise self.error(f"{key} is {value}; it must be from {low} to {high}")
        return value

    def integer_or(self, key: str, default: int, *, low: int = 0, high: int = MOST_TOKENS) -> int:
        """A whole number, or `default` where the field is missing."""
        return self.integer(key, low=low, high=high) if key in self else default

    def integer_or_none(self, key: str, *, low: int = 0, high: int = MOST_TOKENS) -> int | None:
        """A whole number, or None where the field is missing."""
        return self.integer(key, low=low, high=high) if key in self else None

    def time_ps(self, key: str, *, us: int) -> int:
        """A required moment or duration in units of `us` microseconds, as picoseconds; never negative."""
        value = self.number(key)
        if value < 0:
            raise self.error(f"{key} is {value}; it must not be negative")
        return self._ps(key, value, us)

    def ms_or_none(self, key: str) -> int | None:
        """Milliseconds as picoseconds, or None where the field is missing."""
        return self.time_ps(key, us=1_000) if key in self else None

    def seconds_or_none(self, key: str) -> int | None:
        """Seconds as picoseconds, or None where the field is missing."""
        return self.time_ps(key, us=1_000_000) if key in self else None

    def offset_ps(self, key: str) -> int:
        """Milliseconds before (negative) or after an event, as picoseconds; 0 where missing."""
        return self._ps(key, self.number(key), 1_000) if key in self else 0

    def number(self, key: str) -> float:
        """A required finite number."""
        value = self._required(key)
        if type(value) is not int and type(value) is not float:
            raise self._wrong(key, value, "a number")
        if not math.isfinite(value):
            raise self.error(f"{key} is {value}; it must be finite")
        return value

    def _ps(self, key: str, value: float, us: int) -> int:
        if abs(value) * us > MOST_US:
            raise self.error(f"{key} is {value}; the limit is {MOST_US // us}")
        return round(value * us) * QUANTUM_PS

    def text(self, key: str) -> str:
        """A required identifier: text, or a whole number taken as text."""
        value = self._required(key)
        if type(value) is int:
            return str(value)
        if not isinstance(value, str):
            raise self._wrong(key, value, "text")
        if not value:
            raise self.error(f"{key} is empty")
        return value

    def text_or_none(self, key: str) -> str | None:
        """An identifier, or None where the field is missing."""
        return self.text(key) if key in self else None

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        """One of a few words."""
        value = self.text_or_none(key) or default
        if value not in choices:
            wanted = " or ".join(filter(None, choices))
            raise self.error(f"{key} is '{value}'; it must be {wanted}{did_you_mean(value, choices)}")
        return value

    def flag(self, key: str) -> bool:
        """True or false; false where the field is missing."""
        value = self._data.get(key, False)
        if value is not None and type(value) is not bool:
            raise self._wrong(key, value, "true or false")
        return bool(value)

    def texts(self, key: str) -> list[str]:
        """A list of identifiers; empty where the field is missing."""
        values = self._list(key)
        for value in values:
            if type(value) not in (str, int) or value == "":
                raise self._wrong(key, value, "a list of ids")
        return [str(value) for value in values]

    def rows(self, key: str) -> list[Row]:
        """A list of objects; empty where the field is missing."""
        values = self._list(key)
        for value in values:
            if not isinstance(value, dict):
                raise self._wrong(key, value, "a list of objects")
        return [Row(value, self.file, self.line, self._part) for value in values]

    def pairs(self, key: str) -> list[tuple[int, int]]:
        """A list of pairs of whole numbers; empty where the field is missing."""
        values = self._list(key)
        for value in values:
            if not isinstance(value, list) or len(value) != 2 or any(type(x) is not int for x in value):
                raise self._wrong(key, value, "a list of pairs of whole numbers")
        return [(first, second) for first, second in values]

    def ids(self, key: str) -> array[int]:
        """A list of 64-bit whole numbers, signed or not."""
        values = self._list(key)
        try:
            return array("q", values)
        except OverflowError:
            return array("q", [value - 2**64 if value >= 2**63 else value for value in values])
        except TypeError:
            bad = next(value for value in values if type(value) is not int)
            raise self._wrong(key, bad, "a list of whole numbers") from None

    def raw(self, key: str) -> Any:
        """The value as it stands in the file."""
        return self._data.get(key)

    def texts_or_rows(self, key: str) -> list[str | Row]:
        """A list whose entries are identifiers or objects; empty where the field is missing."""
        values = self._list(key)
        for value in values:
            if type(value) not in (str, int, dict) or value == "":
                raise self._wrong(key, value, "a list of ids or objects")
        return [
            Row(value, self.file, self.line, self._part) if isinstance(value, dict) else str(value)
            for value in values
        ]

    def nested(self, key: str) -> Row:
        """A required nested object."""
        value = self._required(key)
        if not isinstance(value, dict):
            raise self._wrong(key, value, "an object")
        return Row(value, self.file, self.line, f"{self._part}{key}: ")

    def mapping_or_none(self, key: str) -> dict[str, object] | None:
        """An object as it stands in the file, or None where the field is missing or empty."""
        value = self._data.get(key)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(key, value, "an object")
        return value or None

    def check_names(self, known: frozenset[str], *, strict: bool = False) -> None:
        """Refuse names that are not `known`; unless `strict`, only those that look like a slip of one."""
        for name in self._data.keys() - known:
            hint = did_you_mean(name, sorted(known - self._data.keys()), 0.6 if strict else 0.8)
            if strict or hint:
                raise self.error(f"unknown field '{name}'{hint}")

    def _required(self, key: str) -> Any:
        value = self._data.get(key)
        if value is None:
            near = nearest(key, self._data, 0.7)
            raise self.error(f"{key} is missing" + (f"; did you mean it by '{near}'?" if near else ""))
        return value

    def _list(self, key: str) -> list[Any]:
        value = self._data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(key, value, "a list")
        return value

    def _wrong(self, key: str, value: object, wanted: str) -> InputError:
        shown = repr(value) if len(repr(value)) <= 40 else repr(value)[:37] + "..."
        return self.error(f"{key} has {shown}; it must be {wanted}")


def fault(file: str, line: int, message: str) -> InputError:
    """An error at a line of a file. What is quoted from the file cannot make the message long or break it."""
    clean = "".join(c if c.isprintable() else "?" for c in message)
    return InputError(f"{file}:{line}: {clean if len(clean) <= MOST_SAID else clean[:MOST_SAID] + '...'}")


def read_rows(path: Path, name: str) -> Iterator[Row]:
    """The JSON objects of a trace, as rows; see `read_objects`."""
    return (Row(values, name, line) for line, values in read_objects(path, name, "trace file"))


def read_objects(path: Path, name: str, wanted: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file, plain or gzip, one a line, with their lines; blank lines are skipped.

    In messages `name` stands for the file, `wanted` for what it should be. Raises InputError on the first
    line that cannot be read.
    """
    line = 0
    try:
        with _open(path) as stream:
            for line, text in enumerate(stream, 1):
                if not text.isspace():
                    yield line, _parse(text, name, line)
    except FileNotFoundError:
        near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{name}: no such file{did_you_mean(path.name, near)}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as bad:
        raise fault(name, line + 1, f"the gzip data is damaged or cut short ({bad})") from None
    except OSError as bad:
        reason = f"this is a folder; give a {wanted}" if path.is_dir() else bad.strerror or str(bad)
        raise InputError(f"{name}: cannot be read: {reason}") from None


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as probe:
        packed = probe.read(2) == b"\x1f\x8b"
    return cast("BinaryIO", gzip.open(path, "rb")) if packed else path.open("rb")


def _parse(text: bytes, name: str, line: int) -> dict[str, Any]:
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as bad:
        try:
            text.decode()
        except UnicodeDecodeError as odd:
            raise fault(name, line, f"not UTF-8 text (byte {odd.start + 1} of the line)") from None
        where = f"column {bad.colno}: {str(bad).split(':')[0]}"
        raise fault(name, line, f"not JSON ({where}); each line must be one object") from None
    if not isinstance(data, dict):
        raise fault(name, line, f"a line must be one JSON object, not {type(data).__name__}")
    return data
