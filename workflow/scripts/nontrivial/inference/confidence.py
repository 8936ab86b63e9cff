"""The confidence level of every interval."""

CONFIDENCE = 0.95
