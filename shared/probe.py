"""Asks the service in this container whether it is ready: `python -m shared.probe PORT`; 0 when it is, 1 when not.

Images hold no curl. Standard library only, because it is started every few seconds.
"""

import sys
from http.client import HTTPConnection, HTTPException

#: Seconds; shorter than any supervisor waits for a check.
_PATIENCE = 4.0


def main(arguments: list[str]) -> int:
    """Prints what the service says of itself, or why it says nothing."""
    connection = HTTPConnection("127.0.0.1", int(arguments[0]), timeout=_PATIENCE)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        sys.stdout.write(answer.read().decode(errors="replace") + "\n")
    except (OSError, HTTPException) as error:
        sys.stdout.write(f"it does not answer: {error}\n")
        return 1
    finally:
        connection.close()
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
