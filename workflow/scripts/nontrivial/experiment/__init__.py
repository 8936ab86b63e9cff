"""Zeroing targets, and what a network predicts under each of them."""
