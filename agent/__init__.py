"""The Thinker: LangGraph curriculum loop, planners, gate, report, and the ``resp-agent`` command."""
