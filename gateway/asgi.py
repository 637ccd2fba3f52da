"""The gateway for other servers: `uvicorn --factory gateway.asgi:app --workers 4`, or Gunicorn with uvicorn's workers.

`python -m gateway` is the usual way: it ends its progress streams before it stops, and serves health and metrics on a
port of its own, which several processes of one server cannot share. Here probes ask `/livez` and `/readyz`, and neither
traces nor Sentry are set up.
"""

from fastapi import FastAPI

from gateway.app import create_app
from gateway.settings import GatewaySettings
from shared.logs import set_up_logs
from shared.scratch import keep_temporary_files_in, own_folder
from shared.startup import leave_pandas_out


def app() -> FastAPI:
    """The application, by settings from the environment; called once in each process that serves."""
    leave_pandas_out()
    settings = GatewaySettings.load()
    set_up_logs(settings, service="gateway")
    keep_temporary_files_in(own_folder(settings.scratch_dir))
    return create_app(settings)
