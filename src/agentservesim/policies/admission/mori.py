"""MORI whole: its residency, and the line before it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from agentservesim.policies.protocols import (
    ADMIT,
    AdmissionEvent,
    Admit,
    ChainView,
    Event,
    FleetView,
    Hold,
    Placement,
    Prefilled,
    ProgramView,
    ServerView,
    TurnEnded,
    TurnView,
)
from agentservesim.policies.residency.idleness import Session, session_of
from agentservesim.policies.residency.mori import Mori

UNTIL_REVIEWED = Hold(until_s=inf)


@dataclass
class MoriGate(Mori):
    """MORI: sessions that left HBM are let in when it has room under its cap, returning ones before new ones.

    Source: arXiv 2606.00866, by notes of others. Named for residency and admission, one object is both.
    Smaller contexts go first; where nothing runs at all, the first in line goes. The cap is the fleet's.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._away: dict[Session, int] = {}
        self._here: dict[Session, int] = {}
        self._line: dict[Session, tuple[bool, int]] = {}

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Admit | Hold:
        """Let in who is in HBM; others when they have been given room."""
        session = program.program_id, turn.session_id
        if self._tiers.get(session) != "gpu" and session not in self._line:
            first = not self._line and turn.prompt_tokens <= self._room(fleet)
            self._line[session] = session not in self._tiers, turn.prompt_tokens
            if first:
                self._let_in(session)
        if session in self._line:
            return UNTIL_REVIEWED
        self._away.pop(session, None)
        self._here[session] = turn.prompt_tokens
        return ADMIT

    def review(self, fleet: FleetView) -> list[Session]:
        """Give room: returning sessions first, small ones first."""
        given = []
        room = self._room(fleet)
        idle = not any(instance.load for instance in fleet.instances)
        for session in sorted(self._line, key=lambda session: self._line[session]):
            tokens = self._line[session][1]
            if tokens <= room or idle:
                room, idle = room - tokens, False
                self._here[session] = tokens
                self._let_in(session)
                given.append(session)
        return given

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Note the context."""
        self._away[session_of(chain)] = chain.tokens
        return super().place(chain, server)

    def observe(self, event: Event | AdmissionEvent) -> None:
        """Keep the clocks and the books."""
        if isinstance(event, TurnEnded):
            self._here.pop((event.program.program_id, event.session_id), None)
        elif not isinstance(event, Prefilled):
            super().observe(event)

    def _let_in(self, session: Session) -> None:
        self._tiers[session] = "gpu"
        del self._line[session]

    def _room(self, fleet: FleetView) -> float:
        """Tokens under the cap that neither turns nor sessions in their gaps have."""
        pools = sum(instance.num_blocks * instance.block_size for instance in fleet.instances)
        gaps = sum(tokens for session, tokens in self._away.items() if self._tiers[session] == "gpu")
        return self.gpu_cap * pools - sum(self._here.values()) - gaps
