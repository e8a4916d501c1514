"""What a policy must be able to do, and what it is allowed to see.

A policy is a small object; its dataclass fields are its parameters. It is given views: what a real
server could know at that moment. How long a reply will be, how long a tool will take and how many turns
are to come is in no view.
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
    Placement,
    Residency,
    ServerView,
    TurnAdmitted,
)
from agentservesim.policies.protocols.routing import (
    InstanceView,
    Router,
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
    "Admission",
    "AdmissionEvent",
    "Admit",
    "ChainView",
    "Changes",
    "Event",
    "FleetView",
    "GapEnded",
    "Hold",
    "InstanceView",
    "OraclePolicy",
    "Placement",
    "Preempted",
    "ProgramArrived",
    "ProgramEnded",
    "ProgramView",
    "Reject",
    "RequestView",
    "Residency",
    "Router",
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
