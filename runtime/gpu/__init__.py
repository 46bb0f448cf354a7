"""The GPU path: one process owns the device and runs programs; everybody else only writes them.

Read `program` first (what is run), then `device` (what runs it), then `owner` and `link` (who holds it and how the
runtime talks to it), then `serving` (how a version is served by it).
"""
