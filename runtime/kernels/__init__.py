"""Kernels: recipes and drift vectors as compiled code (a door).

Knows: numba, which is imported nowhere else. Rules: neighbours enter by `chain.Chain` and
`vector.DriftVector`. Leaves to others: what a recipe may say (`appliance.recipe`), engines, batches.
"""
