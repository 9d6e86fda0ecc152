"""One file per board: platform, clocks, memory controller, links."""
