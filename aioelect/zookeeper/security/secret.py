"""A password, or where it stands."""

from __future__ import annotations

import errno
import os

__all__ = ["Secret", "without_newline"]


class Secret:
    """Knows a password, or the file or environment variable that holds it; shows none.

    A file or a variable is read afresh each time. Raises ``ValueError`` where not exactly one is given, or can't be read.
    """

    __slots__ = ("_given", "_path", "_variable")

    def __init__(
        self, password: str | None, password_file: str | os.PathLike[str] | None, password_env: str | None
    ) -> None:
        if sum(source is not None for source in (password, password_file, password_env)) != 1:
            raise ValueError("give exactly one of password, password_file and password_env")
        if password is not None and not isinstance(password, str):
            raise TypeError(f"password must be a str, not {type(password).__name__}")
        self._path = None if password_file is None else os.fspath(password_file)
        self._variable = password_env
        try:
            self._given = None if password is None else password.encode()
        except UnicodeEncodeError:
            self._given = b""
        if self._given == b"":
            raise ValueError("the password is empty, or no text")
        try:
            self.read()
        except OSError as e:
            raise ValueError(f"can't read the password: {e}") from None

    def __repr__(self) -> str:
        return f"<Secret in {self._path or f'${self._variable}'}>" if self._given is None else "<Secret>"

    def read(self) -> bytes:
        """The password, without the newline at the end of a file. Raises ``OSError`` where there is none now."""
        if self._given is not None:
            return self._given
        where, value = self._path or f"${self._variable}", b""
        if self._path is not None:
            with open(self._path, "rb") as file:
                value = without_newline(file.read())
        elif self._variable is not None:
            if self._variable not in os.environ:
                raise FileNotFoundError(errno.ENOENT, "there is no such environment variable", where)
            value = os.fsencode(os.environ[self._variable])
        if not value:
            raise OSError(errno.ENODATA, "it is empty", where)
        return value


def without_newline(text: bytes) -> bytes:
    """As editors and ``echo`` leave one at the end."""
    return text.removesuffix(b"\n").removesuffix(b"\r")
