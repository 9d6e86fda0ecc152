"""The boards there are.  A new one is a file in this folder and a line here."""

from __future__ import annotations

import importlib

from boards.board import Board

__all__ = ["BoardError", "all_boards", "find_board"]

#: Modules with a `Board` called BOARD.
_MODULES = (
    "ulx3s_85f",
    "ulx3s_25f",
    "ulx3s_12f",
    "ecpix5_85f",
    "orangecrab_85f",
    "colorlight_i9",
    "icebreaker",
)


class BoardError(ValueError):
    """There is no such board, or what boards need is not installed."""


def all_boards() -> list[Board]:
    """Every board, in the order of the list.

    Raises
    ------
    BoardError
        If Amaranth or its board definitions are missing.
    """
    try:
        return [importlib.import_module(f"boards.{module}").BOARD for module in _MODULES]
    except ImportError as error:
        raise BoardError(f"{error.name or error} is not installed: pip install pointshift[board]") from None


def find_board(name: str) -> Board:
    """The board with this name or alias.

    Raises
    ------
    BoardError
        If there is none.
    """
    boards = all_boards()
    for board in boards:
        if name in (board.name, *board.aliases):
            return board
    raise BoardError(f"no board is called {name}; there are {', '.join(board.name for board in boards)}")
