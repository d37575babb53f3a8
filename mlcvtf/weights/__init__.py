"""Weights of published checkpoints, carried into the networks of this package."""
