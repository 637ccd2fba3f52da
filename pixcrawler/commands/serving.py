"""`pixcrawler up`: the whole system on this machine until Ctrl-C."""

from pixcrawler.commands.interrupts import Interrupted
from pixcrawler.commands.report import Reporter
from pixcrawler.local import Event, LocalStack

_LOOK_SECONDS = 60.0


def serve(port: int | None, reporter: Reporter) -> None:
    """Returns when it was asked to stop. Raises LocalStackError when the stack cannot be had or ends by itself."""

    def show(event: Event) -> None:
        reporter.note(event.text if event.is_notice else f"{event.text} …")

    with LocalStack(on_event=show, gateway_port=port) as stack:
        try:
            _tell(stack, port, reporter)
            while True:
                stack.wait(_LOOK_SECONDS)
        except Interrupted:
            reporter.note("Leaving …")
            has_stopped = stack.stop()
            reporter.note("PixCrawler has stopped." if has_stopped else "PixCrawler stays up: others use it.")


def _tell(stack: LocalStack, port: int | None, reporter: Reporter) -> None:
    """Where the stack is, and how to use and leave it."""
    key = stack.home.secrets / "api-key"
    reporter.event("ready", {"gateway": stack.url, "api_key_file": str(key)})
    if port is not None and not stack.url.endswith(f":{port}"):
        reporter.note(f"Your stack is up already, so port {port} is not used.")
    reporter.note(f"PixCrawler is up at {stack.url}; its API is described at {stack.url}/openapi.json.")
    reporter.note("In another terminal: pixcrawler submit my-urls.csv --to ./cats, then pixcrawler job list")
    reporter.note(f'From elsewhere on this machine: PIXCRAWLER_GATEWAY={stack.url}, the key is in "{key}"')
    if stack.was_up:
        reporter.note("It was up already; Ctrl-C leaves it to the others that use it.")
    else:
        reporter.note("Ctrl-C stops it; jobs under way go on at the next start.")
