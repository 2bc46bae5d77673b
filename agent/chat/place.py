"""Where a chat may read and write: the working folder, and recordings that the user named."""

from __future__ import annotations

import re
from pathlib import Path

from agent.llm.text import clean
from training.errors import DataError, RespError

SHIPPED = r"[A-Za-z0-9][A-Za-z0-9._-]*"
INSIDE = "give a path within the working folder"


class Place:
    """The working folder, which is also the current one, and what the user has said so far.

    Args:
        root: the folder.
        endpoint: address and key variable of the chat's model, the only ones that a round may use.
    """

    def __init__(self, root: Path, endpoint: tuple[str | None, str] | None = None):
        self.root, self.endpoint = root.resolve(), endpoint
        self._said: list[str] = []

    def heard(self, text: str) -> None:
        """Remember a message that the user typed."""
        self._said.append(text)

    def inside(self, name: str) -> Path:
        """The path, relative to the working folder, which it and whatever it links to lie in.

        Raises:
            DataError: it lies elsewhere, or is no path.
        """
        try:
            found = (self.root / name).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL character
            raise DataError(f"{clean(name, 80)!r} is no path", cure=INSIDE) from error
        if not name.strip() or not found.is_relative_to(self.root):
            raise DataError(f"{clean(name, 80)!r} is outside the working folder", cure=INSIDE)
        return found.relative_to(self.root)

    def fresh(self, name: str) -> Path:
        """A path inside that holds nothing yet.

        Raises:
            DataError: something is there: nothing is ever overwritten.
        """
        path = self.inside(name)
        if (self.root / path).exists():
            raise DataError(
                f"{clean(name, 80)!r} exists, and nothing is overwritten", cure="choose another name"
            )
        return path

    def above(self, path: Path) -> Path | None:
        """The nearest folder above a path that exists, where that is not the working folder itself."""
        folder = next(one for one in path.parents if (self.root / one).is_dir())
        return None if folder == Path() else folder

    def recording(self, name: str) -> Path:
        """A path to read recordings from: inside, or as the user spelt it in a message of this chat.

        Raises:
            DataError: it is outside, and the user did not name it.
        """
        try:
            return self.inside(name)
        except DataError:
            if not self._named(name):
                raise DataError(
                    f"{clean(name, 80)!r} is outside the working folder, and the user has not named it so",
                    cure="ask the user to write the path of the recording in a message",
                ) from None
        try:
            return Path(name).expanduser()
        except RuntimeError as error:  # no such user's home
            raise DataError(f"{clean(name, 80)!r} is no path", cure=INSIDE) from error

    def shipped(self, name: str) -> str:
        """A preset or shipped set by its plain name, or a path inside.

        Raises:
            DataError: it is outside.
        """
        path = self.inside(name)
        if "$" in name or name.startswith("~"):  # would be expanded where it is used
            raise DataError(f"{clean(name, 80)!r} is outside the working folder", cure=INSIDE)
        plain = re.fullmatch(SHIPPED, name) and not (self.root / path).exists()
        return name if plain else str(path)

    def _named(self, name: str) -> bool:
        """Whether a message holds the path whole: not the end or the beginning of a longer one."""
        spelt = name.rstrip("/")
        if not spelt.strip() or not name.isprintable():
            return False
        whole = rf"(?<![A-Za-z0-9_./~-]){re.escape(spelt)}/?(?![A-Za-z0-9_/~-]|\.[A-Za-z0-9_])"
        return any(re.search(whole, text) for text in self._said)


def one_line(error: RespError) -> str:
    """The error as the model is told it: without the path, which may name a person or this machine."""
    return clean(f"{error.message} → {error.cure}" if error.cure else error.message, 400)
