"""Models that say of every pixel what it shows."""
