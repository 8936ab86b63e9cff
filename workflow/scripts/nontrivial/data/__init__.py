"""Data sets: raw files, their preparation, and the prepared form."""
