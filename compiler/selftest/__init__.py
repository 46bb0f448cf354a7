"""Trying TensorRT on a box with a model of our own, for a report that somebody far away can work with.

Read `findings` first (what a report holds), then

    trying     one precision in a child behind the fences of a build: each step, and what it measured
    running    the whole: the box, a child for each precision
    telling    the report as Markdown and as values

Everything that is tried is the code that builds and serves; nothing here is done another way.
"""
