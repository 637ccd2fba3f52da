"""The real supervisor with the real servers and small services, as a program for `LocalStack(supervisor=...)`."""

import sys
from pathlib import Path

from pixcrawler.local.services import SERVICES, Programs
from pixcrawler.local.supervisor import main

SERVICE = str(Path(__file__).with_name("service.py"))
PROGRAMS = Programs(
    services={name: (sys.executable, SERVICE, name) for name in SERVICES},
    migrate=(sys.executable, "-c", "print('schema is at head')"),
    make_key=(sys.executable, "-c", "import secrets; print(secrets.token_hex())"),
    fork_server=(),
    schema_digest=lambda: "1",
)

if __name__ == "__main__":
    raise SystemExit(main(PROGRAMS))
