"""Reading the client's list of URLs: txt, csv, tsv, json, jsonl and parquet, each also gzipped.

    with open_list(path, url_col="URL", caption_col="TEXT", save_columns=["license"]) as reader:
        for table in reader.slices(after=cursor):
            ...  # a pa.Table of `url`, `caption`, `license`; reader.cursor is where it ended

A list is read once, in bounded memory, and no row is ever lost: a row or a cell that cannot be read is
null, and counts. What makes the whole list unreadable is a `BadSource` with a sentence for the client.
"""

from shared.manifest.digest import digest_of
from shared.manifest.formats import ListFormat
from shared.manifest.inline import write_rows
from shared.manifest.opening import open_list
from shared.manifest.reader import Cursor, ListReader

__all__ = ["Cursor", "ListFormat", "ListReader", "digest_of", "open_list", "write_rows"]
