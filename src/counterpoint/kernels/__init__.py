"""How the engine computes: `reference` (dense, the truth), `tiled` (any device, memory O(N + M)), `triton` (GPUs)."""
