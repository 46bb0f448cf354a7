"""Kernels: recipes as compiled code (a door)."""
