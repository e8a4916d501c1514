"""Records of vLLM's own scheduler for many cases: PYTHON live.py ORACLE_DIR FIRST LAST.

Runs in the environment that has vLLM; prints a JSON line a case, which the test reads.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from generate import FAMILIES, case
from record import oracle_records


def main() -> None:
    """Print the cases FIRST to LAST of every family."""
    sys.path.insert(0, sys.argv[1])
    import vllm_oracle

    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        for family in FAMILIES:
            limits, specs = case(family, number)
            records = oracle_records(vllm_oracle, limits, specs)
            print(json.dumps({"family": family, "number": number, "records": records}), flush=True)
    os._exit(0)  # vLLM leaves threads behind


if __name__ == "__main__":
    main()
