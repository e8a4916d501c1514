"""Suggestions for names that are nearly right."""

from __future__ import annotations

from agentservesim.lookup import did_you_mean, near_or_all, nearest

NAMES = ["llama", "qwen"]


def test_the_nearest_name_is_suggested() -> None:
    assert nearest("lama", NAMES) == "llama"
    assert did_you_mean("lama", NAMES) == near_or_all("lama", NAMES) == "; did you mean 'llama'?"


def test_where_nothing_is_near_all_names_are_told_or_none() -> None:
    assert nearest("zzz", NAMES) is None
    assert did_you_mean("zzz", NAMES) == ""
    assert near_or_all("zzz", NAMES) == "; there are llama, qwen"


def test_the_cutoff_says_how_near_is_near() -> None:
    assert nearest("lama", NAMES, 0.95) is None
    assert nearest("llama", NAMES, 1.0) == "llama"
