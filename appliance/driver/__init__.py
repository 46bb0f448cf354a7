"""Whether this box has an NVIDIA GPU that can be used, and if not, why.

Read `probe` first (the question and its answer), then `asking` (who asks the driver), `causes` (what each failure
means and what to do), `surroundings` (what of the box tells failures apart) and `wheels` (NVIDIA's packages that are
installed).
"""

from appliance.driver.probing import CAPABILITY_MIN, Gpu, Probe, probe

__all__ = ["CAPABILITY_MIN", "Gpu", "Probe", "probe"]
