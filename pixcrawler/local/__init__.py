"""The embedded stack: PostgreSQL, Valkey and the five services as processes of one user's machine.

    with local_stack() as stack:
        print(stack.url, stack.api_key)

One *supervisor* process (`supervisor.py`) owns everything and is shared by all runs of a user:

    run A ─┐ shared lock on run/users.lock
    run B ─┴─► supervisor ─► PostgreSQL, Valkey ─► gateway, scheduler, downloader, validator, uploader

A run that finds no supervisor starts one. The supervisor stops everything in order when nobody holds the
users' lock any more, which the kernel releases however a run ends. It composes processes only: no server
package is imported here.
"""

from pixcrawler.local.errors import LocalStackError
from pixcrawler.local.home import Home
from pixcrawler.local.stack import Event, LocalStack, local_stack

__all__ = ["Event", "Home", "LocalStack", "LocalStackError", "local_stack"]
