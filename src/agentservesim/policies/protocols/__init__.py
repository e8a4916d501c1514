"""What a policy must be able to do, and what it is allowed to see.

A policy is a small object; its dataclass fields are its parameters. It is given views: what a real
server could know at that moment. How long a reply will be, how long a tool will take and how many turns
are to come is in no view.

Policies of any family may have `figures()`, a mapping of names to numbers, which the results have under
`policy_figures`, and `wants`, a mapping of hints to what the policy does without them (`policies.hints`). One
that is of use only as the policy of several families at once names these in `together`.
"""

from agentservesim.policies.protocols.admission import (
    ADMIT,
    Admission,
    AdmissionEvent,
    Admit,
    FleetView,
    Hold,
    Reject,
    TurnEnded,
    Verdict,
)
from agentservesim.policies.protocols.migration import Migration, Move, Pause, Replicate, Restore
from agentservesim.policies.protocols.programs import (
    OraclePolicy,
    ProgramArrived,
    ProgramEnded,
    ProgramView,
)
from agentservesim.policies.protocols.residency import (
    CACHE,
    ChainView,
    Event,
    GapEnded,
    PinBroken,
    Placement,
    Residency,
    ServerView,
    TurnAdmitted,
)
from agentservesim.policies.protocols.routing import (
    NO_HINTS,
    Choice,
    InstanceView,
    Prefilled,
    QueuedTurn,
    Replied,
    Router,
    RouterEvent,
    TurnView,
)
from agentservesim.policies.protocols.scheduling import (
    Changes,
    Preempted,
    RequestView,
    Scheduler,
    SchedulerEvent,
    TurnArrived,
    TurnFinished,
)

__all__ = [
    "ADMIT",
    "CACHE",
    "NO_HINTS",
    "Admission",
    "AdmissionEvent",
    "Admit",
    "ChainView",
    "Changes",
    "Choice",
    "Event",
    "FleetView",
    "GapEnded",
    "Hold",
    "InstanceView",
    "Migration",
    "Move",
    "OraclePolicy",
    "Pause",
    "PinBroken",
    "Placement",
    "Preempted",
    "Prefilled",
    "ProgramArrived",
    "ProgramEnded",
    "ProgramView",
    "QueuedTurn",
    "Reject",
    "Replicate",
    "Replied",
    "RequestView",
    "Residency",
    "Restore",
    "Router",
    "RouterEvent",
    "Scheduler",
    "SchedulerEvent",
    "ServerView",
    "TurnAdmitted",
    "TurnArrived",
    "TurnEnded",
    "TurnFinished",
    "TurnView",
    "Verdict",
]
