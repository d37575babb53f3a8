"""Viola-Jones: boosted cascades of Haar features, trained, read, written and run."""

from mlcvtf.detection.viola_jones.opencv_xml import load_cascade, save_opencv_xml

__all__ = ["load_cascade", "save_opencv_xml"]
