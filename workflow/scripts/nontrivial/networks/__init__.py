"""Networks, their kernel tables and roles, and which of their weights meet data."""
