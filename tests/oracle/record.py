"""Record cases from vLLM's own scheduler: python tests/oracle/record.py ORACLE_DIR [cases a family].

ORACLE_DIR holds vllm_oracle.py; it is run by the Python that runs this, which needs vLLM. Writes one
file a family to tests/oracle/recorded.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from generate import FAMILIES, STEP_TIME, Limits, case  # noqa: E402


def oracle_records(oracle: Any, limits: Limits, specs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Step records of vLLM's scheduler."""
    options = oracle.limit_parser().parse_args([])
    for name, value in limits.items():
        setattr(options, name, value)
    trace = oracle.oracle_trace(specs, options, oracle.affine(STEP_TIME))
    return [record for record in trace if record["ev"] == "step"]


def main() -> None:
    """Record every family."""
    sys.path.insert(0, sys.argv[1])
    cases = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    import vllm_oracle

    package = next(d for d in importlib.metadata.distributions() if (d.name or "").startswith("vllm"))
    version = f"{package.name} {package.version}"
    (HERE / "recorded").mkdir(exist_ok=True)
    for family in FAMILIES:
        lines = []
        for number in range(cases):
            limits, specs = case(family, number)
            records = oracle_records(vllm_oracle, limits, specs)
            for record in records:
                del record["t1"], record["t2"]
                record["t0"], record["t3"] = round(record["t0"], 9), round(record["t3"], 9)
            made = {"vllm": version, "family": family, "number": number, "step_time": STEP_TIME}
            lines.append(json.dumps({**made, "limits": limits, "specs": specs, "records": records}))
        raw = ("\n".join(lines) + "\n").encode()
        (HERE / "recorded" / f"{family}.jsonl.gz").write_bytes(gzip.compress(raw, 9, mtime=0))
        print(family, len(lines), "cases", flush=True)
    os._exit(0)  # vLLM leaves threads behind


if __name__ == "__main__":
    main()
