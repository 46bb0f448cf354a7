"""Drift: whether what is served still looks like what the model was proven on."""
