"""What is wrong with a box, or with the way to it, in a sentence each (a door).

Knows: the examinations and their order. Rules: nothing is changed; every trouble comes with what to do; what could
not be looked at is said. Leaves to others: printing (`tui.commands.doctor`).
"""

from tui.doctor.box import examine_box
from tui.doctor.finding import Finding, Verdict
from tui.doctor.remote import Visit, examine_remote

__all__ = ["Finding", "Verdict", "Visit", "examine_box", "examine_remote"]
