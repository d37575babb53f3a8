"""The programs behind `apps/`: flags and the wiring of finished parts."""
