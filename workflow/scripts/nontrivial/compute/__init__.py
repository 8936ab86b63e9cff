"""Devices, batches on them, and what makes a result repeatable."""
