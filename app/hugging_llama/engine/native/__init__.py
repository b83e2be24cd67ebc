"""Optional CPU kernels in C: linear layers (int4, int8, bfloat16), attention, element-wise steps.

`library.py` loads what `hatch_build.py` compiled from `src/`; `probe.py` compares every family with torch before the
engine may use it. Whatever is missing (no compiler at install, another processor) is None, and torch's operators do
the work.
"""
