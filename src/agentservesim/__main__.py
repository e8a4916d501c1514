"""`python -m agentservesim` is `agentservesim`."""

from agentservesim.cli import main

main()
