"""`counterpoint doctor`: what is installed, what the machine has, what is missing and how to get it."""

from __future__ import annotations


def doctor() -> None:
    """Show versions, devices and threads, what is missing, and how to get it.

    Example: counterpoint doctor
    """
    from rich.table import Table

    from counterpoint.terminal import Console
    from counterpoint.workflow.doctor import doctor as run

    table = Table("what", "how it stands", "what to type", box=None, header_style="bold")
    for what, stands, todo in run():
        table.add_row(what, stands, todo, style="yellow" if todo else "")
    Console().print(table)
