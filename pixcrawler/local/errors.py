"""The embedded stack's one error, and the exit codes it carries (as in sysexits)."""

#: A part cannot run here or did not come up: platform, missing wheels, a port in use, a service that dies.
EXIT_UNAVAILABLE = 69
#: The home folder cannot be written or has too little room.
EXIT_CANNOT_CREATE = 73
#: Another run is in the way; the same command may work later.
EXIT_TRY_LATER = 75
#: What was asked for contradicts what is there: data of another PostgreSQL, unusable settings.
EXIT_CONFIG = 78


class LocalStackError(Exception):
    """The embedded stack cannot be had. The message is for the user: what is wrong and what to do."""

    def __init__(self, message: str, exit_code: int = EXIT_UNAVAILABLE) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
