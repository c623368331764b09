"""What ``compare`` reports: one record for each difference, equal ones in many places as one."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Difference:
    """One way in which their network differs from the reference."""

    kind: str
    """stable name for graders, such as ``bias-before-norm``"""
    what: str
    """the difference in plain words"""
    remedy: str
    """what the reference does there, or what to change"""
    places: tuple[str, ...] = ()
    """where in THEIR network, all of them"""
    reference: tuple[str, ...] = ()
    """the same places in the reference"""

    @property
    def where(self) -> str:
        """The places in one line: three of them and the number of the others."""
        shown = ", ".join(self.places[:3]) or "the network"
        others = len(self.places) - 3
        return f"{shown} and {others} more" if others > 0 else shown


@dataclass
class _Group:
    remedy: str
    places: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    amount: int = 0


@dataclass
class Findings:
    """Collects differences; the same words at another place only add the place.

    In the words, ``{places}`` becomes the number of places and ``{amount}`` the sum of amounts.
    """

    found: dict[tuple[str, str], _Group] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        kind: str,
        what: str,
        remedy: str,
        where: str = "",
        reference: str = "",
        amount: int = 0,
    ) -> None:
        group = self.found.setdefault((kind, what), _Group(remedy))
        group.amount += amount
        if where and where not in group.places:
            group.places.append(where)
        if reference and reference not in group.references:
            group.references.append(reference)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def kinds(self) -> set[str]:
        return {kind for kind, _ in self.found}

    def drop(self, kind: str) -> None:
        """Forget the findings of a kind, which another one explains."""
        self.found = {key: group for key, group in self.found.items() if key[0] != kind}

    def differences(self) -> tuple[Difference, ...]:
        return tuple(
            Difference(
                kind,
                what.replace("{places}", f"{len(group.places)}").replace(
                    "{amount}", f"{group.amount:,}"
                ),
                group.remedy,
                tuple(group.places),
                tuple(group.references),
            )
            for (kind, what), group in self.found.items()
        )
