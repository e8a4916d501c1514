"""When the servers take on a turn: one policy per file, all through the public protocol."""

from typing import TYPE_CHECKING

from agentservesim.ondemand import on_demand

if TYPE_CHECKING:
    from agentservesim.policies.admission.always import Always
    from agentservesim.policies.admission.concur import Concur
    from agentservesim.policies.admission.early_reject import EarlyReject
    from agentservesim.policies.admission.max_programs import MaxPrograms
    from agentservesim.policies.admission.mori import MoriGate
    from agentservesim.policies.admission.thunderagent import ThunderAgent
    from agentservesim.policies.admission.token_bucket import TokenBucket
else:
    __getattr__ = on_demand(__name__)

__all__ = ["Always", "Concur", "EarlyReject", "MaxPrograms", "MoriGate", "ThunderAgent", "TokenBucket"]
