"""An engine against the reference and what was agreed, by the code that serves it.

Read `proof` first.
"""
