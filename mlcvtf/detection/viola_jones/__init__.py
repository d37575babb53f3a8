"""Viola-Jones: boosted cascades of Haar features, trained, read, written and run."""
