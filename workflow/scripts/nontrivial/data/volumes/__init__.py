"""Image and label volumes: reading, pairing, and cutting into normalized slices."""
