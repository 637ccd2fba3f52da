"""The one place where a command's errors become a sentence and an exit code."""

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from typer.exceptions import TyperException

from pixcrawler.commands.exits import Exit, Failure, exit_of_error
from pixcrawler.errors import ApiError, PixCrawlerError
from pixcrawler.local.errors import LocalStackError

_LOG = "command-error.log"


def guarded(command: Callable[[], object], is_json: bool) -> int:
    """Runs a command; returns what the process is to end with."""
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has had enough; the interpreter must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except TyperException as error:
        return _say(_usage(error), error.exit_code, is_json)
    except Failure as error:
        return _say(str(error), error.code, is_json)
    except LocalStackError as error:
        return _say(error.message, error.exit_code, is_json)
    except PixCrawlerError as error:
        return _say(_sentence(error), exit_of_error(error), is_json, code=error.code)
    except Exception:
        return _say(f"that is a bug; please report it with {_logged()}", Exit.INTERNAL, is_json)
    if code == Exit.INTERRUPTED:
        return _say("interrupted", Exit.INTERRUPTED, is_json)
    return code if isinstance(code, int) else Exit.OK


def _say(sentence: str, exit_code: int, is_json: bool, *, code: str = "") -> int:
    if sentence:  # a bare `pixcrawler` has shown its help
        sys.stderr.write(f"pixcrawler: {sentence}\n")
    if is_json:
        told = {"event": "error", "code": code, "message": sentence, "exit_code": int(exit_code)}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
    return int(exit_code)


def _usage(error: TyperException) -> str:
    # What a validator of ours says comes with pydantic's own head.
    message = error.format_message().strip().replace("Value error, ", "")
    return f"{message.rstrip('.')}; see pixcrawler --help" if message and "\n" not in message else message


def _sentence(error: PixCrawlerError) -> str:
    if isinstance(error, ApiError) and error.request_id and error.status >= 500:
        return f"{error} (request {error.request_id})"
    return str(error)


def _logged() -> Path:
    """Where the trace of the exception at hand lies now."""
    from pixcrawler.local.home import Home

    for folder in (Home.find().logs, Path(tempfile.gettempdir())):
        try:
            path = folder / _LOG
            path.write_text(traceback.format_exc())
            return path
        except OSError:
            continue
    return Path(os.devnull)
