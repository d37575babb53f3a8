"""What is inside a model: its costs, and pictures of what it has learned."""
