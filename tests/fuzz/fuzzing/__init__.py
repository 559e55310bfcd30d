"""Damaged and strange input for the command lines, and what they make of it; see ../fuzz.py."""
