"""Fixed-point model to program: tiling, memory map, scheduling."""
