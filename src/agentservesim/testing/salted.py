"""Ids whose hashes are others, as those of texts are in each process of Python."""

from __future__ import annotations

from dataclasses import replace
from zlib import crc32

from agentservesim.testing.residency_cases import Case


class SaltedId(str):
    """A text with a hash of its own: equal to the same text, but found in no table of plain ones."""

    _hash: int

    def __new__(cls, text: str, salt: int) -> SaltedId:
        """`text`, hashed with a `salt`."""
        made = super().__new__(cls, text)
        made._hash = crc32(f"{salt}/{text}".encode())
        return made

    def __hash__(self) -> int:
        return self._hash


def hashed_anew(case: Case, salt: int) -> Case:
    """The same case; the ids of its programs and turns have the hashes that a `salt` gives."""
    programs = [
        replace(
            program,
            id=SaltedId(program.id, salt),
            turns=tuple(replace(turn, id=SaltedId(turn.id, salt)) for turn in program.turns),
        )
        for program in case.programs
    ]
    return replace(case, programs=tuple(programs))
