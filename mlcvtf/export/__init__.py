"""Export to SavedModel and LiteRT with one serving contract."""
