"""Kernels: the same forward unroll and backward sweep, on whatever hardware there is."""
