"""TensorRT: what a model becomes on a box with an NVIDIA GPU.

Read `target` first (the order of a compilation), then

    refusals    what the model's graph says TensorRT cannot serve
    network     the typed graph parsed into the library's network; all that its parser refuses
    shapes      the ranges that an engine is built for
    building    a plan from a network: settings, timings, progress, errors
    inspected   what the plan says of itself: layers, arithmetic, memory
    refitting   an earlier plan of the same structure given new weights
    kernels     the recipe's kernels, compiled beside the plan

Only what TensorRT 10.3 to 11 have in common is used. Importing this room imports neither the library nor a parser.
"""

from typing import Final

STRIPPED: Final = "stripped"  # the part of an engine file that holds its plan without weights
