"""From predictions to metrics, intervals, tests and verdicts."""
