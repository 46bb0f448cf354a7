"""From an extracted bundle to the engine that the version gets: what a build's child does.

Read `compiling` first, then `candidates`.
"""
