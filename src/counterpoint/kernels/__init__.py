"""How the engine computes: `reference` (dense, the truth) and `tiled` (any device, memory O(N + M))."""
