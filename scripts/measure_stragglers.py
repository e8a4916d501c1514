"""How many tiles keep the memory busy, by profiles of decode rows of two lengths.

    python scripts/measure_stragglers.py KV_HEADS FOLDER

FOLDER holds `attention.csv` (docs/hardware.md) and `skew.csv`: times of n decode rows of which nb are long,
beside those of n rows of their mean length. Prints, by rows, the tiles for which `cost/stragglers.py` gives
what one long row (four times the others, of 4,096 tokens and more) was measured to cost.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path
from statistics import median

LONG = 4096


def main() -> None:
    """Print a line for each number of rows."""
    parser = argparse.ArgumentParser(description="Tiles that keep the memory busy.")
    parser.add_argument("kv_heads", type=int)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    token_us = token_times(asked.folder / "attention.csv")
    found = defaultdict(list)
    for row in read(asked.folder / "skew.csv"):
        rows, long, short = int(row["n"]), float(row["kv_big"]), float(row["kvs"])
        if row["regime"] == "pure" and row["nb"] == "1" and long == 4 * short >= LONG and rows in token_us:
            wait = float(row["t_skew_us"]) / float(row["t_mean_us"]) - 1
            rows_us = rows * float(row["kv_mean"]) * token_us[rows]
            found[rows].append(asked.kv_heads * (1 + wait * rows_us / (long - short) / token_us[rows]))
    for rows, tiles in sorted(found.items()):
        busy = f"{median(tiles):3.0f} tiles keep the memory busy"
        print(f"{rows:4} rows, {rows * asked.kv_heads:5} tiles: {busy}")


def token_times(path: Path) -> dict[int, float]:
    """Microseconds a token of context adds to a row, by rows: over the last doubling of their contexts."""
    times = {
        (int(row["n_decode"]), int(row["kv_decode"])): float(row["time_us"])
        for row in read(path)
        if row["prefill_chunk"] == "0"
    }
    slopes = {}
    for rows in {rows for rows, _ in times}:
        last = max(context for count, context in times if count == rows)
        if (rows, last // 2) in times:
            slopes[rows] = (times[rows, last] - times[rows, last // 2]) / (last - last // 2) / rows
    return slopes


def read(path: Path) -> list[dict[str, str]]:
    """Lines of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
