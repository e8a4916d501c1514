"""Built-in scheduling policies, one a file."""

from typing import TYPE_CHECKING

from agentservesim.ondemand import on_demand

if TYPE_CHECKING:
    from agentservesim.policies.scheduling.astraea import Astraea
    from agentservesim.policies.scheduling.atlas import Atlas
    from agentservesim.policies.scheduling.autellix_mlfq import AutellixMlfq
    from agentservesim.policies.scheduling.continuum import Continuum
    from agentservesim.policies.scheduling.dfs_weight import DfsWeight
    from agentservesim.policies.scheduling.fair_share import FairShare
    from agentservesim.policies.scheduling.fcfs import Fcfs
    from agentservesim.policies.scheduling.hrrn import Hrrn
    from agentservesim.policies.scheduling.infercept import InferCeptQueue
    from agentservesim.policies.scheduling.lpm import Lpm
    from agentservesim.policies.scheduling.mars import Mars
    from agentservesim.policies.scheduling.plas import Plas
    from agentservesim.policies.scheduling.priority import Priority
    from agentservesim.policies.scheduling.program_fcfs import ProgramFcfs
    from agentservesim.policies.scheduling.saga import SagaShare
    from agentservesim.policies.scheduling.sjf import Sjf
    from agentservesim.policies.scheduling.sjf_oracle import SjfOracle
    from agentservesim.policies.scheduling.srpt_oracle import SrptOracle
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "Astraea",
    "Atlas",
    "AutellixMlfq",
    "Continuum",
    "DfsWeight",
    "FairShare",
    "Fcfs",
    "Hrrn",
    "InferCeptQueue",
    "Lpm",
    "Mars",
    "Plas",
    "Priority",
    "ProgramFcfs",
    "SagaShare",
    "Sjf",
    "SjfOracle",
    "SrptOracle",
]
