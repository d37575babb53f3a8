"""Classification: one class per picture."""
