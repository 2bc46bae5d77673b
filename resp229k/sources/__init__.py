"""Source adapters: one module per published corpus, each with ``discover(root) -> Iterator[Recording]``."""
