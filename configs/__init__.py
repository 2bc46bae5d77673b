"""Presets (``presets/*.yaml``) and the small shipped weights (``weights/tiny``), as package data."""
