"""Figures, tables and claims."""
