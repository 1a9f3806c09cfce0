"""Commands that the program proposes: they name the folders and the database of this call, and never a password."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from search.options.commands import options_of
from search.options.folders import DEFAULTS, option
from search.options.parser import prog

_PLACES = ("runs_dir", "export_dir", "data_dir", "weights_dir", "models_dir")


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """How commands are written that find what this call found.

    `options` are those of this call that differ from the defaults, whatever named them: whoever repeats a command later
    may have another environment. `has_password` is true if the database's URL has a password, which is left out.
    """

    prog: str = field(default_factory=prog)
    options: Mapping[str, str] = field(default_factory=dict)
    has_password: bool = False

    @classmethod
    def of(cls, call: object) -> "Proposals":
        """Those of a call: its request, or the arguments of its command."""
        given = {name: getattr(call, name, None) for name in _PLACES}
        options = {option(name): _word(path) for name, path in given.items() if path not in (None, DEFAULTS.get(name))}
        url, has_password = _storage(call)
        return cls(options={**options, **({"--storage": url} if url else {})}, has_password=has_password)

    def command(self, name: str, *words: str | Path) -> str:
        """A line for the shell: the command, its words, and what it takes of this call's options."""
        taken = options_of(name)
        more = [word for flag, value in self.options.items() if flag in taken for word in (flag, value)]
        own = [] if name == "search" else [name]
        return f"{self.prog} {shlex.join([*own, *map(_word, words), *more])}"


def _word(word: object) -> str:
    """A word of a command; a path that begins with a hyphen would be read as an option."""
    return f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word)


def _storage(call: object) -> tuple[str | None, bool]:
    """The database's URL without its password, None for the file in the runs folder; whether it has a password."""
    from search.storage.hide_url import environment_url
    from search.storage.url import default_url, parse_url, without_password

    given = getattr(call, "storage", None) or environment_url()
    if not given:
        return None, False
    url = parse_url(given)
    bare, whole = without_password(url).render_as_string(), url.render_as_string(hide_password=False)
    return (None if bare == default_url(getattr(call, "runs_dir", DEFAULTS["runs_dir"])) else bare), bare != whole
