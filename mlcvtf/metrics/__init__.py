"""Metrics of detection, verification and identification."""
