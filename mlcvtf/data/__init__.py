"""Data set readers, augmentation and synthetic sets."""
