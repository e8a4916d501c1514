"""Where KV is: the block pool as extents, and its prefix index."""
