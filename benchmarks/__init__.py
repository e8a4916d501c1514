"""How fast the simulator is: `make bench` (python -m benchmarks [--record])."""
