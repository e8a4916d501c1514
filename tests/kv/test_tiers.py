"""Who shares a tier, and over which links."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentservesim.kernel import Kernel
from agentservesim.kv.config import LinkConfig, MemoryConfig, TierConfig
from agentservesim.kv.tiers import KvShape, build_tiers
from agentservesim.model import PS_PER_S, InputError

SHAPE = KvShape(16, 1000, model="a-7b")
S = PS_PER_S


def memory(per: str = "tier") -> MemoryConfig:
    return MemoryConfig(
        tiers=(TierConfig(name="dram", capacity_bytes=1e5, scope="node"),),
        links=(LinkConfig(between=("hbm", "dram"), down_bytes_per_s=1000, up_bytes_per_s=1000, per=per),),
    )


@pytest.mark.parametrize(("per", "takes_s"), [("instance", [4, 2]), ("tier", [4, 4])])
def test_tensor_parallel_degrees_may_share_a_tier(per: str, takes_s: list[int]) -> None:
    """Blocks are the same bytes; over links of their own two ranks move them in half the time."""
    shapes = [SHAPE, replace(SHAPE, ranks=2)]
    (one,), (two,) = build_tiers(memory(per), shapes, Kernel())
    assert one.pool is two.pool
    assert [tier.link.alone_ps(4000, True) / S for tier in (one, two)] == takes_s


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "b-7b"}, "as it is of a-7b and of b-7b"),
        ({"block_size": 32}, "as blocks have 16 and 32 tokens"),
        ({"block_bytes": 2000}, "as blocks have 1,000 and 2,000 bytes over all ranks"),
    ],
)
def test_kv_that_differs_is_not_shared(changes: dict[str, object], says: str) -> None:
    shapes = [SHAPE, replace(SHAPE, **changes)]  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"tier 'dram': .*{says}; give it scope 'instance'"):
        build_tiers(memory(), shapes, Kernel())
