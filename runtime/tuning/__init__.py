"""Measuring how a model would answer under other settings (a door: the console tunes with it).

Knows: who may use it, and by what names. Rules: what is measured is the real batcher over the real version,
in a process of its own, so that a crash, a hang or Ctrl-C ends that process and nothing else; the serving
runtime is neither asked nor told. Leaves to others: which settings to try (`tui.search`), deciding.
"""

from runtime.tuning.messages import Arrivals, Measured, Order
from runtime.tuning.process import Measuring

__all__ = ["Arrivals", "Measured", "Measuring", "Order"]
