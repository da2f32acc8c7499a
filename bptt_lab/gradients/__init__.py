"""Gradient strategies: one file each, and the slow oracle that proves them."""
