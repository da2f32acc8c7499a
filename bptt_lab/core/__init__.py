"""Core: the equations, their kernels, checked constructors, named random streams."""
