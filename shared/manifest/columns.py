"""Which columns of the list are wanted, and what to say when they are not there."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import BadSource
from shared.records import RESERVED_COLUMNS

#: Names shown in a message; a table of features may have thousands of columns.
SHOWN_NAMES = 20


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The client's choice, by the names used in the list."""

    url: str = "url"
    caption: str | None = None
    saved: tuple[str, ...] = ()

    @classmethod
    def chosen(cls, *, url: str, caption: str | None, saved: Sequence[str]) -> "Columns":
        """The choice without repetitions. Raises BadSource for a saved column whose name is taken."""
        taken = sorted(RESERVED_COLUMNS & set(saved))
        if taken:
            raise BadSource(
                f"the column '{taken[0]}' cannot be saved, the dataset has its own column of that name; "
                "rename it in the list"
            )
        return cls(url=url, caption=caption, saved=tuple(dict.fromkeys(saved)))

    @property
    def wanted(self) -> list[str]:
        """Names to look for in the list: URL, caption if there is one, saved columns."""
        return [self.url, *([] if self.caption is None else [self.caption]), *self.saved]

    def check(self, present: Sequence[str], where: str = "the list has") -> None:
        """Raises BadSource when a wanted column is not among those present, or stands there twice."""
        for name, option in self._with_options():
            if name not in present:
                raise BadSource(_missing(name, option, present, where))
            if present.count(name) > 1:
                raise BadSource(f"the list has more than one column '{name}'; rename all but one of them")

    def _with_options(self) -> list[tuple[str, str]]:
        caption = [] if self.caption is None else [(self.caption, "--caption-col")]
        return [(self.url, "--url-col"), *caption, *((name, "--save-column") for name in self.saved)]


def _missing(name: str, option: str, present: Sequence[str], where: str) -> str:
    alike = [other for other in present if other.strip().lower() == name.strip().lower()]
    shown = ", ".join(present[:SHOWN_NAMES]) + (", …" if len(present) > SHOWN_NAMES else "")
    advice = f"try {option} {alike[0]}" if alike else f"choose one with {option}"
    return f"there is no column '{name}': {where} {shown or 'no named columns'}; {advice}"
