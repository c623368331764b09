"""A command and a group of commands; from the words of a command line to a call."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from resnetlab.cli.mistakes import unknown_option
from resnetlab.cli.options import REQUIRED, Option, options_of
from resnetlab.errors import UserError
from resnetlab.records import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Command:
    """A function and the words that call it."""

    name: str
    """the words that lead to it: "resnetlab data fetch" """
    function: Callable[..., None]

    @property
    def about(self) -> str:
        """Paragraphs that say what it does."""
        return inspect.getdoc(self.function) or ""

    @cached_property
    def options(self) -> list[Option]:
        """In the order of the help."""
        return list(options_of(self.function))

    @property
    def usage(self) -> str:
        """How it is called, in a line."""
        words = [
            option.flag if option.default is REQUIRED else f"[{option.flag}]"
            for option in self.options
            if option.role == "positional"
        ]
        options = ["[options]"] if len(words) < len(self.options) else []
        return " ".join([self.name, *words, *options])

    def parse(self, words: list[str]) -> dict[str, Any]:
        """The function's arguments; UserError, one sentence, if the words are wrong."""
        values, loose, queue = {}, [], deque(words)
        while queue:
            word = queue.popleft()
            if word == "--":
                loose += queue
                break
            if not _is_flag(word):
                loose.append(word)
                continue
            option, value = self._find(word)
            if option.takes != "nothing":
                value = option.read(_take(option, value, queue))
            values[option.parameter] = value
        return values | self._place(loose)

    def _find(self, word: str) -> tuple[Option, Any]:
        """The option of a word such as ``--lr`` or ``--lr=1``, and the value in it, if any."""
        flag, equals, text = word.partition("=")
        flag = flag.replace("_", "-")
        for option in self.options:
            if option.role == "option" and flag == option.flag:
                if equals and option.takes == "nothing":
                    raise UserError(f"{flag} takes no value, not even {text!r}.")
                return option, (text if equals else True)
            if option.takes == "nothing" and flag == option.flag.replace("--", "--no-", 1):
                return option, False
        raise UserError(unknown_option(word, self.name, self.options))

    def _place(self, words: list[str]) -> dict[str, Any]:
        """The values of the positional parameters, in order."""
        values = {}
        for option in self.options:
            if option.role == "positional":
                count = len(words) if option.takes == "several" else 1
                given, words = words[:count], words[count:]
                if given:
                    values[option.parameter] = option.read(given)
                elif option.default is REQUIRED:
                    raise UserError(
                        f"{self.name.split(' ', 1)[1]} needs {option.help}: {self.usage}"
                    )
        if words:
            raise UserError(f"{words[0]!r} is one word too many; usage: {self.usage}")
        return values


@dataclass(frozen=True, kw_only=True)
class Group:
    """Commands under one word, as in ``resnetlab data``."""

    name: str
    about: str
    members: dict[str, Command | Group]
    noun: str = "command"
    present: Callable[[str], str] = str
    """gives the present name of a former one"""
    closing: str = ""
    """the end of its help"""

    @property
    def usage(self) -> str:
        """How it is called, in a line."""
        return f"{self.name} {self.noun.upper()} ..."

    def find(self, words: list[str]) -> tuple[Command | Group, list[str]]:
        """The command that the words ask for, or the group to be helped with; the other words."""
        if not words:
            raise UserError(f"name a {self.noun}: {self.usage}; there are: {self._list()}.")
        if words[0] in ("-h", "--help"):
            return self, words
        name = self.present(words[0].replace("_", "-"))
        if name in self.members:
            found, rest = self.members[name], words[1:]
            return found.find(rest) if isinstance(found, Group) else (found, rest)
        later = next((i for i, word in enumerate(words) if word in self.members), 0)
        if _is_flag(name) and later:  # as in `train --out runs/a cifar10-quick`
            return self.find([words[later], *words[later + 1 :], *words[:later]])
        if _is_flag(name):
            raise UserError(f"name a {self.noun} before {name}: {self.usage}")
        raise UserError(f"there is no {self.noun} {name!r}{did_you_mean(name, self.members)}")

    def _list(self) -> str:
        return ", ".join(self.members)


def _is_flag(word: str) -> bool:
    """Whether a word asks for an option; ``-1e-3`` and ``-`` do not."""
    try:
        float(word)
    except ValueError:
        return len(word) > 1 and word.startswith("-")
    return False


def _take(option: Option, value: str | bool, queue: deque[str]) -> list[str]:
    """The words that belong to an option; those used up leave the queue."""
    words = [value] if isinstance(value, str) else []
    while queue and not _is_flag(queue[0]) and (option.takes == "several" or not words):
        words.append(queue.popleft())
    if not words:
        raise UserError(f"{option.flag} needs {option.wanted}: {option.help}.")
    return words
