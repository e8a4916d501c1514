"""The picture of latencies: how many turns and programs are done within how long."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from agentservesim.report.html.series import QUANTILES, rounded

MEASURES = (("turn.ttft_s", "TTFT"), ("turn.tpot_s", "TPOT"), ("program.latency_s", "program latency"))


def distributions(programs: pl.DataFrame, turns: pl.DataFrame) -> list[dict[str, Any]]:
    """Each measure's values at QUANTILES, interpolated as the summary's percentiles are."""
    tables = {"turn": turns, "program": programs}
    curves = []
    for metric, label in MEASURES:
        subject, column = metric.split(".")
        known = tables[subject][column].drop_nulls().to_numpy()
        values = np.quantile(known, QUANTILES) if known.size else np.empty(0)
        curves.append({"metric": metric, "label": label, "n": known.size, "values_s": rounded(values)})
    return curves
