"""The audit log: the evidence of what was asked, answered and decided."""
