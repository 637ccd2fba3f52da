"""Makes a place for datasets in an emulator: `make_place.py az datasets` or `make_place.py s3 datasets`.

Real stores are given theirs by whoever owns them; PixCrawler never makes one. That it is there already is no error.
"""

import sys

from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import ContainerClient

from shared.settings import StorageSettings


def main(arguments: list[str]) -> None:
    """Raises what the store's library raises; the supervisor tries again."""
    scheme, name = arguments
    settings = StorageSettings()
    if scheme == "az":
        _make_container(settings, name)
    else:
        _make_bucket(settings, name)


def _make_container(settings: StorageSettings, name: str) -> None:
    assert settings.azure_connection_string is not None, "PIXCRAWLER_AZURE_CONNECTION_STRING is not set"
    connection_string = settings.azure_connection_string.get_secret_value()
    with ContainerClient.from_connection_string(connection_string, name) as container:
        try:
            container.create_container()
        except ResourceExistsError:
            return


def _make_bucket(settings: StorageSettings, name: str) -> None:
    assert settings.s3_access_key_id is not None, "PIXCRAWLER_S3_ACCESS_KEY_ID is not set"
    assert settings.s3_secret_access_key is not None, "PIXCRAWLER_S3_SECRET_ACCESS_KEY is not set"
    import boto3

    boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id.get_secret_value(),
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value(),
    ).create_bucket(Bucket=name)


if __name__ == "__main__":
    main(sys.argv[1:])
