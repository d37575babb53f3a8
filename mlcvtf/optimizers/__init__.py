"""Newton's methods, and surfaces to watch optimizers on; Keras has the others."""
