"""The audit log: the evidence of what was asked, answered and decided.

Knows: records and their canonical bytes, the Merkle tree over them, signed checkpoints. Rules: the log
only grows; what was acknowledged is on stable storage; nothing is claimed that it cannot prove. Leaves to
others: what is worth recording (`runtime`) and showing it (`tui`).
"""
