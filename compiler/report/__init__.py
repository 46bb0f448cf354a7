"""The proof of a version, told: for scripts, for a terminal, and as a page to look at.

Knows: what a report says of a version and its engine (`text`), its page (`page`, `charts`, `svg`), its files
(`writing`). Rules: a function of the manifest and the record, so that equal versions have equal reports. Leaves
to others: measuring.
"""
