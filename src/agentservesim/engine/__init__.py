"""One vLLM-like instance: scheduler, step and leap."""
