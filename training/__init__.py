"""Shared ground: strict configs, errors, atomic files, run folders, and a thin layer over the Trainer.

Only ``training.model`` and ``training.fit`` import torch; everything else stays light so that the
command line can start at once.
"""
