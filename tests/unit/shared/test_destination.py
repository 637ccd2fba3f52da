"""What a client may type as destination, and what it is told otherwise."""

from pathlib import Path

import pytest

from shared.storage.destination import Destination, Scheme

# typed, canonical
UNDERSTOOD = [
    # A folder, with and without slashes too many.
    ("/data/cats", "/data/cats"),
    ("/data/cats/", "/data/cats"),
    ("//data///cats//", "/data/cats"),
    ("/Data/Café Bilder", "/Data/Café Bilder"),
    # Azure: the scheme's case does not matter, the prefix's does.
    ("az://datasets", "az://datasets"),
    ("az://datasets/", "az://datasets"),
    ("AZ://datasets/Cats/2026//", "az://datasets/Cats/2026"),
    ("az://a-1/split=train/v1.0", "az://a-1/split=train/v1.0"),
    # S3 allows dots and double hyphens in names.
    ("s3://my.bucket-1/cats", "s3://my.bucket-1/cats"),
    ("S3://a--b", "s3://a--b"),
]


@pytest.mark.parametrize(("typed", "canonical"), UNDERSTOOD)
def test_a_destination_has_one_spelling_that_is_understood_again(typed: str, canonical: str) -> None:
    destination = Destination.parse(typed)

    assert str(destination) == canonical
    assert Destination.parse(str(destination)) == destination


# typed, what the sentence must hold
REFUSED = [
    # Nothing at all, or what cannot be seen.
    ("", "is empty"),
    ("   ", "is empty"),
    ("az://cats/a\nb", "control characters"),
    ("/data/\x00cats", "control characters"),
    ("/data/cats ", "blanks at its ends"),
    ("/data/ca\u202ets", "control characters"),
    # Folders that are not named whole.
    ("cats", "whole path"),
    ("./cats", "whole path"),
    ("~/cats", "whole path"),
    ("C:\\cats", "whole path"),
    ("/", "root folder"),
    ("/data/../etc", "write it out"),
    ("/data/./cats", "write it out"),
    ("/data/" + "x" * 255, "shorter name"),
    # Places that are not supported, with what is.
    ("gs://bucket/cats", "gs:// is not supported; give a folder"),
    ("abfss://c@account.dfs.core.windows.net/cats", "abfss:// is not supported"),
    ("file:///data/cats", "without file://"),
    ("https://account.blob.core.windows.net/c/cats", "web address"),
    # Containers and buckets that no provider would make.
    ("az://", "needs a container"),
    ("az:///cats", "needs a container"),
    ("s3://", "needs a bucket"),
    ("az://ab", "no name of an Azure container"),
    ("az://Datasets", "no name of an Azure container"),
    ("az://data--sets", "no name of an Azure container"),
    ("az://data.sets", "no name of an Azure container"),
    ("az://$web", "no name of an Azure container"),
    ("az://" + "a" * 64, "no name of an Azure container"),
    ("s3://Bucket", "no name of an S3 bucket"),
    ("s3://a..b", "no name of an S3 bucket"),
    ("s3://-ab", "no name of an S3 bucket"),
    ("s3://bucket-", "no name of an S3 bucket"),
    ("s3://192.168.0.1", "no name of an S3 bucket"),
    # Secrets and options.
    ("az://datasets/cats?sv=2024&sig=abc", "credentials and options"),
    ("s3://key:secret@bucket/cats", "credentials and options"),
    # Prefixes that mean another place to some provider.
    ("az://datasets/a/../b", "write it out"),
    ("az://datasets/a//b", "two slashes"),
    ("s3://bucket//a", "two slashes"),
    ("az://datasets/cats.", "ends with a dot"),
    ("az://datasets/a./b", "ends with a dot"),
    ("az://datasets/a%2e", "the prefix holds %"),
    ("s3://bucket/a#b", "the prefix holds #"),
    ("s3://bucket/a\\b", "the prefix holds \\"),
    ("s3://bucket/" + "x" * 255, "part of the prefix is longer"),
    ("s3://bucket/" + "xxxxxxx/" * 70, "prefix is longer"),
]


@pytest.mark.parametrize(("typed", "told"), REFUSED)
def test_what_cannot_be_a_destination_is_refused_with_advice(typed: str, told: str) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the sentence is compared below
        Destination.parse(typed)

    assert told in str(refusal.value)


def test_a_refusal_does_not_repeat_a_secret() -> None:
    with pytest.raises(ValueError, match="do not belong") as refusal:
        Destination.parse("s3://AKIAKEY:topsecret@bucket/cats")

    assert "topsecret" not in str(refusal.value)


# typed, canonical
ENDPOINTS = [
    ("https://minio.example.org", "https://minio.example.org"),
    ("https://MinIO.example.org/", "https://minio.example.org"),
    ("https://minio.example.org:443", "https://minio.example.org"),
    ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
    ("http://[::1]:9000/", "http://[::1]:9000"),
]


@pytest.mark.parametrize(("typed", "canonical"), ENDPOINTS)
def test_an_endpoint_has_one_spelling(typed: str, canonical: str) -> None:
    assert Destination.parse("s3://bucket", endpoint=typed).endpoint == canonical


NO_ENDPOINTS = [
    *("", "minio:9000", "ftp://minio", "https://", "https://mi nio", "https://[::1"),
    *(
        "https://key:secret@minio",
        "https://minio/path",
        "https://minio?a=b",
        "https://minio:port",
        "https://minio:99999",
    ),
]


@pytest.mark.parametrize("typed", NO_ENDPOINTS)
def test_what_is_no_endpoint_is_refused_with_advice(typed: str) -> None:
    with pytest.raises(ValueError, match="give the endpoint as https://host") as refusal:
        Destination.parse("s3://bucket", endpoint=typed)

    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("typed", ["/data/cats", "az://datasets/cats"])
def test_an_endpoint_is_refused_where_it_means_nothing(typed: str) -> None:
    with pytest.raises(ValueError, match="s3:// destinations only"):
        Destination.parse(typed, endpoint="https://minio.example.org")


def test_destinations_are_equal_when_they_are_the_same_place() -> None:
    assert Destination.parse("AZ://datasets/cats/") == Destination.parse("az://datasets/cats")
    assert Destination.parse("az://datasets/cats") != Destination.parse("s3://datasets/cats")
    assert Destination.parse("s3://bucket/cats") != Destination.parse("s3://bucket/Cats")
    assert Destination.parse("s3://bucket", endpoint="https://a") != Destination.parse("s3://bucket")
    assert len({Destination.parse("/data/cats"), Destination.parse("/data//cats/")}) == 1


def test_a_destination_tells_its_parts() -> None:
    azure, folder = Destination.parse("az://datasets/a/b"), Destination.parse("/data/cats")

    assert (azure.scheme, azure.container, azure.path) == (Scheme.AZURE, "datasets", "a/b")
    assert azure.key("dataset.json") == "a/b/dataset.json"
    assert Destination.parse("az://datasets").key("dataset.json") == "dataset.json"
    assert folder.folder == Path("/data/cats")
    with pytest.raises(ValueError, match="not a folder"):
        _ = azure.folder
