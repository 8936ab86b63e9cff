"""Metrics, intervals, tests, corrections and verdicts: mathematics only, no files."""
