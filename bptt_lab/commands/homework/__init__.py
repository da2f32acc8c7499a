"""Homework that grades itself: the command `bptt-homework`."""
