"""A chat: the user's turns, the model's calls, and what the program grants."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from agent.chat.job import Result, Tool
from agent.chat.place import Place, one_line
from agent.chat.protocol import Call, Say, read_turn, result_message, system_message
from agent.chat.tools import TOOLS
from agent.llm.client import Message, ModelError, Reply
from agent.llm.prompt import MAX_QUOTED, Refused, repair_messages
from agent.llm.text import clean
from agent.stop import Stopped
from training.errors import RespError

MAX_CALLS = 8  # tool calls per turn of the user
MAX_HISTORY = 100_000  # characters that the model is sent of earlier turns
DECLINED = "declined: the user did not agree, so it was not done; do not ask for it again"
STOPPED = "stopped by the user"


class Model(Protocol):
    """What :class:`agent.llm.Client` does, and a script in its place."""

    def chat(self, messages: Sequence[Message], *, json_mode: bool = True) -> Reply:
        """One reply."""
        ...


class Front(Protocol):
    """The user's side, such as a terminal."""

    def say(self, text: str) -> None:
        """Show the model's words."""
        ...

    def note(self, text: str) -> None:
        """Show a line of the program's own."""
        ...

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Show a header and rows."""
        ...

    def confirm(self, question: str) -> bool:
        """Whether the user agrees."""
        ...

    def log(self, kind: str, **fields: Any) -> None:
        """Keep a line of the transcript, where one is wanted."""
        ...


class Session:
    """One chat, with its history in memory.

    Args:
        model: who answers.
        place: where tools may read and write.
        front: the user's side.
        tools: by name.
        repairs: turns in which the model may mend a reply that is none.
    """

    def __init__(
        self,
        model: Model,
        place: Place,
        front: Front,
        tools: Mapping[str, Tool] = TOOLS,
        repairs: int = 3,
    ):
        self.model, self.place, self.front, self.tools, self.repairs = model, place, front, tools, repairs
        self.system = system_message(tools)
        self.turns: list[list[Message]] = []  # each begins with a message of the user
        self._declined: set[str] = set()

    def ask(self, text: str) -> bool:
        """Answer a message of the user, with as many tools as it takes, up to ``MAX_CALLS``.

        Returns:
            whether the model came to an answer. What went wrong with a tool it is told, and goes on.

        Raises:
            ConfigError: the server refuses the key, the address, the model or the request.
            ModelError: no reply came, or none that fits; the chat can go on.
        """
        text = text.encode("utf-8", "replace").decode()  # a terminal may hand over broken characters
        self.place.heard(text)
        self.front.log("user", text=text)
        self._declined.clear()
        self.turns.append([{"role": "user", "content": text}])
        done = False
        try:
            done = self._answer()
        finally:
            if not done:  # so that user and model take turns, which some servers insist on
                self._keep(Say(say=f"(no answer: {STOPPED} or failed)").model_dump_json())
        return done

    def _answer(self) -> bool:
        for left in range(MAX_CALLS, -1, -1):
            turn = self._turn()
            if isinstance(turn, Say):
                self._keep(json.dumps({"say": turn.say[:MAX_QUOTED]}, ensure_ascii=False))
                self.front.say(turn.say)
                return True
            if not left:
                break
            self._keep(turn.text())
            ok, told = self._call(turn)
            self.turns[-1].append(result_message(turn.tool, ok, told, left - 1))
            self.front.log("result", tool=turn.tool, ok=ok, told=told)
            if told == STOPPED:
                return False
        raise ModelError(
            f"the model made {MAX_CALLS} calls and came to no answer", cure="ask for less at once"
        )

    def _turn(self) -> Say | Call:
        """The model's next turn; turns in which it mended its reply are forgotten."""
        mending: list[Message] = []
        for _ in range(self.repairs + 1):
            reply = self.model.chat([self.system, *self._recent(), *mending])
            self.front.log("model", text=reply.content, tokens=reply.tokens)
            try:
                return read_turn(reply, self.tools)
            except Refused as refused:
                self.front.log("refused", faults=refused.faults)
                mending += repair_messages(reply, refused.faults, "reply")
                reason = str(refused)
        raise ModelError(f"the model gave no usable answer: {reason}", cure="ask again, or use another model")

    def _call(self, call: Call) -> tuple[bool, Any]:
        """Carry out a call that is allowed: whether it went well, and what the model is told."""
        self.front.note(clean(f"→ {call.text()}", 400))
        try:
            job = self.tools[call.tool].job(call.arguments, self.place)
            if job.question is not None and not self._agreed(call.tool, job.question):
                return False, DECLINED
            result = job.run()
        except KeyboardInterrupt:
            self.front.note(STOPPED)
            return False, STOPPED
        except Stopped as stop:  # a run ends between two steps, and says how to go on
            if stop.signal != "SIGINT":
                raise
            return False, STOPPED
        except RespError as error:
            return self._failed(error)
        except OSError as error:
            from agent.cli import explained

            return self._failed(explained(error))
        return True, self._shown(result)

    def _agreed(self, tool: str, question: str) -> bool:
        """Ask the user, once per turn of theirs and tool where they decline."""
        agreed = tool not in self._declined and self.front.confirm(clean(question, 400))
        if not agreed:
            self._declined.add(tool)
            self.front.note(f"declined: {clean(question, 400)}")
        self.front.log("confirm", question=question, agreed=agreed)
        return agreed

    def _failed(self, error: RespError) -> tuple[bool, str]:
        self.front.note(f"error: {clean(str(error), 400)}")
        return False, one_line(error)

    def _shown(self, result: Result) -> dict[str, Any]:
        if result.shown:
            self.front.table(result.shown)
        return result.told

    def _keep(self, content: str) -> None:
        self.turns[-1].append({"role": "assistant", "content": content})

    def _recent(self) -> list[Message]:
        """The last turns that are not too long together; the one under way is always among them."""
        kept: list[list[Message]] = []
        size = 0
        for turn in reversed(self.turns):
            size += sum(len(message["content"]) for message in turn)
            if kept and size > MAX_HISTORY:
                break
            kept.append(turn)
        return [message for turn in reversed(kept) for message in turn]
