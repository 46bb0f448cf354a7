"""Servicers: each call is decoded, handed on, and its answer encoded."""
