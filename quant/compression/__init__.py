"""Pruning (Han et al. 2015) and weight sharing (Han et al. 2016) of float graphs; `docs/compression.md`."""
