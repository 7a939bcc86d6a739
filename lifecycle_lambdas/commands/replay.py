"""`replay`: shows the dead letters, and sends them back to where they came from."""

from __future__ import annotations

import argparse
from typing import Any

from lifecycle_lambdas.commands.common import NOT_SETTLED, OK, ask, context_of_operator, indented, moment, table
from lifecycle_lambdas.dead_letters import MOST, DeadLetters, Letter, outdated

TEXT = "show what lies in modelyard-failed, and send it back to where it came from"


def add(commands: Any) -> None:
    command = commands.add_parser("replay", help=TEXT, description=TEXT)
    command.add_argument("--show", action="store_true", help="show it only")
    others = "delete what came from nothing of the platform's, which is left where it is else"
    command.add_argument("--delete-others", action="store_true", help=others)
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    context = context_of_operator()
    queue = DeadLetters(context)
    letters = sorted(queue.all(), key=lambda letter: letter.sent)
    left = list(letters)
    try:
        if not letters:
            print("there are no dead letters")
            return OK
        print("\n".join(text(letters)))
        if options.show:
            return OK
        stale = {letter.receipt for letter in letters if outdated(letter, context.ledger.entries)}
        sent = [letter for letter in letters if letter.is_known and letter.receipt not in stale]
        others = len(letters) - len(sent) - len(stale)
        ask(options, question(len(sent), len(stale), others, options.delete_others))
        for letter in letters:
            # as it is now: while somebody thought about it a version may have been approved
            if (why := outdated(letter, context.ledger.entries)) is not None:
                queue.delete(letter)
                print(f"deleted: {letter.what}: {why}")
            elif letter.is_known:
                queue.replay(letter)
                print(f"sent to {letter.target}: {letter.what}")
            elif options.delete_others:
                queue.delete(letter)
                print(f"deleted: {letter.what}: it came from nothing of the platform's")
            else:
                print(f"left where it is: {letter.what}: it came from nothing of the platform's")
                continue
            left.remove(letter)
        return NOT_SETTLED if left else OK
    finally:
        for letter in left:
            queue.release(letter)


def question(sent: int, stale: int, unknown: int, delete_unknown: bool) -> str:
    parts = [f"{sent} go back to where they came from"]
    if stale:
        parts.append(f"{stale} removals are deleted, since versions were approved after them")
    if unknown:
        become = "are deleted" if delete_unknown else "stay"
        parts.append(f"{unknown} {become}, since they came from nothing of the platform's")
    return "; ".join(parts) + "."


def text(letters: list[Letter]) -> list[str]:
    """A table, and below it why each letter lies there, those of one reason together, and who sent those of which more
    than a look comes."""
    rows = [(moment(letter.sent), letter.target or "unknown", letter.what) for letter in letters]
    reasons = dict.fromkeys(f"{letter.target or 'unknown'}: {letter.why}" for letter in letters)
    lines = [*table(("sent (UTC)", "for", "what"), rows), "", "why:", *indented(reasons)]
    if senders := dict.fromkeys(f"{letter.what}: {letter.sender or 'unknown'}" for letter in letters if letter.acts):
        lines += ["", "sent by (a role's unique id, and its session):", *indented(senders)]
    if len(letters) == MOST:
        lines.append(f"these are the first {MOST}: do it again for those that are left")
    return lines
