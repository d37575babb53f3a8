"""Backbones: images to a pyramid of feature maps."""
