"""Tests: `tests/<area>/<module>_test.py` mirrors `mlcvtf/<area>/<module>.py`."""
