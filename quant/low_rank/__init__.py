"""Layers of fewer products by low rank (`docs/lowrank.md`): Zhang et al., CVPR 2015 and TPAMI 2016."""
