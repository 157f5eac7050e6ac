"""Figures and tables, drawn from results alone: one file each."""
