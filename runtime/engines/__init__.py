"""Engines: what runs a compiled model (a door)."""
