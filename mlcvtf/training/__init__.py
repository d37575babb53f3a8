"""Building, fitting, resuming and evaluating what a recipe describes."""
