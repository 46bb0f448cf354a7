"""Acts on a stranger's model, done in a child process behind fences.

Knows: what an act is, and the two ways to do one. Rules: whatever parses, runs or compiles the model is an
act; in the workshop's commands it runs in a fresh interpreter with bounds on memory and time, without
network, processes or signals, reading and writing only what it was given. Leaves to others: which acts
there are (`compiler.acts`).

    Doer          does an act: `Confined` in a child, `Here` in this process
    fences        what a child may not: limits, capabilities, `syscalls`, `paths`
    messages      what parent and child say to each other
    parent        starts, follows and ends a child
    worker        the child's own program
"""

from compiler.child.act import Act, Doer, Here, Places, kernel_cache
from compiler.child.parent import Confined

__all__ = ["Act", "Confined", "Doer", "Here", "Places", "kernel_cache"]
