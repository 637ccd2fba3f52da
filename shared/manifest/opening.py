"""Opens a list, whatever its format, and finds what is wrong with it before anything is planned."""

from collections.abc import Sequence
from pathlib import Path

from shared.errors import BadSource
from shared.manifest.columns import Columns
from shared.manifest.csv_list import CsvReader
from shared.manifest.formats import ListFormat, format_of
from shared.manifest.json_list import JsonLinesReader, json_reader
from shared.manifest.parquet_list import ParquetReader
from shared.manifest.reader import ListReader
from shared.manifest.stream import ByteStream, unpacked_copy
from shared.manifest.text import TextReader, TxtReader


def open_list(
    path: Path,
    *,
    list_format: ListFormat | None = None,
    url_col: str = "url",
    caption_col: str | None = None,
    save_columns: Sequence[str] = (),
    scratch: Path | None = None,
) -> ListReader:
    """Opens the client's list for reading. The format is told by the name unless given.

    `scratch` is the folder for the unpacked copy that a `.parquet.gz` needs (None: the system's). Raises BadSource,
    with one sentence for the client, for a list that cannot be read or has no rows; WorkAreaFull if the copy
    has no room.
    """
    _check_file(path)
    columns = Columns.chosen(url=url_col, caption=caption_col, saved=save_columns)
    return opened(path, list_format or format_of(path.name), columns, scratch)


def opened(path: Path, chosen: ListFormat, columns: Columns, scratch: Path | None) -> ListReader:
    """The same for a file that is there, with columns that were chosen."""
    if chosen is ListFormat.PARQUET:
        return _checked(_parquet(path, columns, scratch))
    stream = ByteStream(path)
    try:
        return _checked(_text_reader(stream, chosen, columns))
    except BaseException:
        stream.close()
        raise


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise BadSource(f"'{path.name}' is a folder; give one file")
    if not path.exists():
        raise BadSource(f"there is no file '{path.name}'")
    if not path.is_file():
        raise BadSource(f"'{path.name}' is not a regular file")
    try:
        path.open("rb").close()
    except OSError as error:
        raise BadSource(f"'{path.name}' cannot be opened: {error.strerror}") from error


def _parquet(path: Path, columns: Columns, scratch: Path | None) -> ListReader:
    copy = unpacked_copy(path, scratch)
    return ParquetReader(copy or path, columns, owned=copy)


def _text_reader(stream: ByteStream, chosen: ListFormat, columns: Columns) -> TextReader:
    match chosen:
        case ListFormat.TXT:
            return TxtReader(stream, columns)
        case ListFormat.CSV:
            return CsvReader(stream, columns, delimiter=",")
        case ListFormat.TSV:
            return CsvReader(stream, columns, delimiter="\t")
        case ListFormat.JSON:
            return json_reader(stream, columns)
        case ListFormat.JSONL:
            return JsonLinesReader(stream, columns)
        case ListFormat.PARQUET:
            raise AssertionError("parquet is not text")


def _checked(reader: ListReader) -> ListReader:
    try:
        reader.seek(None)
        if reader.is_exhausted():
            raise BadSource("the list has no rows")
        return reader
    except BaseException:
        reader.close()
        raise
