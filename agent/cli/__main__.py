"""``python -m agent.cli`` is ``resp-agent``."""

from agent.cli import main

main()
