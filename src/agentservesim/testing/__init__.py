"""Tools to test the simulator with, for its developers and for authors of policies."""
