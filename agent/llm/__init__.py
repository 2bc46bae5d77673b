"""LLM Thinker: plans by a chat model behind any endpoint that speaks OpenAI's protocol."""

from agent.llm.client import Client, ModelError, Reply
from agent.llm.planner import check_endpoint, plan_llm

__all__ = ["Client", "ModelError", "Reply", "check_endpoint", "plan_llm"]
