"""Config of a chat: the model's endpoint. Free of heavy imports."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from agent.config import LLMSettings
from training.config import Strict


class ChatConfig(Strict):
    """``llm`` is the section that a loop's config has."""

    llm: LLMSettings = LLMSettings()

    @model_validator(mode="after")
    def _live(self) -> Self:
        if self.llm.replay is not None:
            raise ValueError("llm.replay is for planner 'llm' of a loop; a chat is not replayed")
        return self
