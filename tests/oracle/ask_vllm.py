"""Runs in an environment with vLLM: reads cases from stdin, a JSON line each, and answers each with a line.

    V/bin/python tests/oracle/ask_vllm.py FOLDER_OF_THE_ORACLE < cases.jsonl

The first line of the answer is {"vllm": version}. Then, for each case, the oracle's step records as
{"steps": [...]}, or {"error": text}. It knows nothing of the product.
"""

import contextlib
import json
import os
import sys
import tempfile


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM may print what it likes
    sys.path.insert(0, sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        tempfile.tempdir = scratch
        import vllm  # type: ignore[import-not-found]
        import vllm_oracle as oracle  # type: ignore[import-not-found]

        print(json.dumps({"vllm": vllm.__version__}), file=answers, flush=True)
        for line in sys.stdin:
            case = json.loads(line)
            limits = oracle.limit_parser().parse_args(case["flags"])
            answer: dict[str, object]
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    trace = oracle.oracle_trace(case["requests"], limits, oracle.affine(case["step_time"]))
                answer = {"steps": [record for record in trace if record["ev"] == "step"]}
            except (Exception, SystemExit) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer, separators=(",", ":")), file=answers, flush=True)
    answers.flush()
    os._exit(0)  # vLLM leaves threads behind


if __name__ == "__main__":
    main()
