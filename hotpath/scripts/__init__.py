"""Scripts: find them, describe them without importing them here, load them where they run."""
