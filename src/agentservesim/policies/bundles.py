"""Bundles: published systems as the policies of all families that they are made of.

A part that a bundle does not name is the default's. See docs/policies/bundles.md for what of each system
is in its parts, and what is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agentservesim.lookup import near_or_all
from agentservesim.model import InputError


class Bundle(NamedTuple):
    """Specs by family, and what they stand for."""

    parts: Mapping[str, str]
    meaning: str


BUNDLES: Mapping[str, Bundle] = {
    "vllm": Bundle(
        {"router": "round-robin"},
        "vLLM behind its production stack's default router: round robin, first come, first served, LRU.",
    ),
    "sglang": Bundle(
        {"router": "prefix-aware"},
        "SGLang with its cache-aware router.",
    ),
    "dynamo": Bundle(
        {"router": "dynamo-kv"},
        "NVIDIA Dynamo's KV router.",
    ),
    "llm-d": Bundle(
        {"router": "llm-d"},
        "llm-d's weighted scorers: prefix, KV use, queue.",
    ),
    "continuum": Bundle(
        {"scheduler": "continuum", "residency": "continuum"},
        "Continuum: a time to live for KV by tool, pinned programs and early ones first.",
    ),
    "infercept": Bundle(
        {"scheduler": "infercept", "residency": "infercept"},
        "InferCept: preserve, swap or discard by waste; queues by the program's original arrival.",
    ),
    "autellix": Bundle(
        {"scheduler": "autellix-mlfq", "router": "autellix"},
        "Autellix: programs by attained service in multi-level queues; long prompts stay at home.",
    ),
    "saga": Bundle(
        {"scheduler": "saga", "router": "saga", "residency": "saga"},
        "SAGA: tool-aware pins and eviction, affinity with stealing, fair shares.",
    ),
    "thunderagent": Bundle(
        {"admission": "thunderagent", "router": "thunderagent"},
        "ThunderAgent: programs are paused where memory thrashes, and restored where there is room.",
    ),
    "mori": Bundle(
        {"admission": "mori", "residency": "mori"},
        "MORI: programs by idleness over GPU and CPU; those for which neither has room wait.",
    ),
}


def bundle_parts(name: str) -> Mapping[str, str]:
    """Specs by family of a bundle; none for "". Raises InputError for an unknown name."""
    if name and name not in BUNDLES:
        raise InputError(f"unknown policy '{name}'{near_or_all(name, BUNDLES)}")
    return BUNDLES[name].parts if name else {}


def list_bundles() -> dict[str, str]:
    """Bundles: name and what they stand for."""
    return {
        name: f"{bundle.meaning} ({', '.join(f'{family} {spec}' for family, spec in bundle.parts.items())})"
        for name, bundle in sorted(BUNDLES.items())
    }
