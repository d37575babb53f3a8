"""Recipes: one training per file."""
