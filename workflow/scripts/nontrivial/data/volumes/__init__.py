"""From image and label volumes to normalized slices of one size."""
