"""Why a request is not answered: a status, a sentence, and perhaps when to come again."""

from __future__ import annotations


class Refused(Exception):
    """Ends a request with ``{"error": sentence}``."""

    def __init__(self, status: int, sentence: str, *, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = {} if retry_after is None else {"retry-after": str(retry_after)}
