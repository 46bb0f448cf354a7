"""Kernels: recipes and drift vectors as compiled code (a door).

Knows: numba, which is imported nowhere else. Rules: neighbours enter by `chain.Chain`,
`vector.DriftVector` and, when a bundle is packed, `vector_fit.fit_layout`. Leaves to others: what a recipe may say (`appliance.recipe`), engines, batches.
"""
