"""``resp-agent chat``."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.options import Override
from training.errors import RunError

if TYPE_CHECKING:
    from agent.chat.session import Session
    from agent.chat.terminal import Terminal

BEGINS = (
    "{where} is sent what you type, the names and arguments of tools, their figures, and file names that you "
    "or it named; never audio, annotations or metadata files. Research only, not a medical device."
)


def chat(
    override: Override = None,
    config: Annotated[
        str | None, typer.Option(help="YAML file with the section `llm`, as loops have it.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Working folder: tools read and write in it only.")] = Path(),
    ask: Annotated[str | None, typer.Option(help="Ask this alone, print the answer, and end.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to everything that a tool asks.")] = False,
    log: Annotated[Path | None, typer.Option(help="New file for the transcript (JSON lines).")] = None,
) -> None:
    """Let a chat model diagnose, generate, evaluate, plan, run a round, explain and draw, in your language.

    The model is any that speaks OpenAI's protocol; `RESP_LLM_KEY` holds the key, if it needs one. Before
    anything long, and before writing into an existing folder, you are asked; without a terminal, such
    calls are declined unless `--yes` is given. Nothing is deleted or overwritten.
    Ctrl-C stops a tool or ends the chat, Ctrl-D ends it.

    **Examples**

        resp-agent chat -o llm.base_url=http://127.0.0.1:11434/v1 -o llm.model=qwen3

        resp-agent chat --config llm.yaml --ask "Diagnose recordings/a.wav" --log chat.jsonl

        resp-agent chat --config llm.yaml --yes --ask "请运行一轮，然后解释最常见的混淆。"
    """
    from agent.config_chat import ChatConfig
    from training.config import load_config

    settings = load_config(ChatConfig, config, override or []).llm
    if not folder.is_dir():
        raise RunError("there is no such folder", path=folder, cure="give a folder with --folder")
    from agent.chat.place import Place
    from agent.chat.session import Session
    from agent.chat.terminal import Terminal
    from agent.llm import Client

    model = Client(settings)
    front = Terminal(yes=yes, log=None if log is None else log.absolute(), key_env=settings.key_env)
    with chdir(folder):
        session = Session(
            model, Place(Path(), (settings.base_url, settings.key_env)), front, repairs=settings.repairs
        )
        here = " (this machine)" if model.local else ""
        front.note(BEGINS.format(where=f"{settings.base_url}{here}"))
        try:
            if ask is None:
                _talk(session, front)
            elif not session.ask(ask):  # the user stopped it
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def _talk(session: Session, front: Terminal) -> None:
    """Turn by turn until the user ends it."""
    from agent.llm import ModelError

    while (text := front.read()) is not None:
        if not text.strip():
            continue
        try:
            session.ask(text.rstrip("\n"))
        except ModelError as error:  # may pass; a refused key or address ends the chat
            front.note(f"error: {error}")
