"""The corpus: sources, tasks, clips and manifest, splits, narratives, audio I/O and the simulator."""
