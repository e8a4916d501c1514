"""What knowing each gap would gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agentservesim.policies.protocols import ChainView, OraclePolicy, ServerView
from agentservesim.policies.residency.cost_aware import CostAware
from agentservesim.policies.residency.samples import Samples


@dataclass
class OracleGap(CostAware, OraclePolicy):
    """Oracle: decides as cost-aware does, with each gap known instead of its distribution.

    A gap whose end is not certain yet, because it waits for other turns, is never held through.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        OraclePolicy.__init__(self)

    def _rest_s(self, chain: ChainView, server: ServerView) -> Samples:
        next_use_s = self.next_use_s.get((chain.program_id, chain.session_id))
        return np.array([] if next_use_s is None else [max(next_use_s - server.now_s, 0.0)])
