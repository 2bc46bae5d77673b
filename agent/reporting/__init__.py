"""The story of a run: what each round found, planned, kept and changed; its plots and its clips."""
