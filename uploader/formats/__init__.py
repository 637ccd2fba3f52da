"""How accepted images lie in the destination: loose files, tar shards or Parquet, behind one interface."""

from shared.recipe import OutputFormat
from uploader.formats.base import Delivery, Format, Holding, Picture
from uploader.formats.container import ContainerFormat
from uploader.formats.files import Files
from uploader.formats.parquet import ParquetFile
from uploader.formats.webdataset import TarShard

__all__ = ["Delivery", "Format", "Holding", "Picture", "format_of"]

_FORMATS: dict[OutputFormat, Format] = {
    OutputFormat.FILES: Files(),
    OutputFormat.WEBDATASET: ContainerFormat(TarShard()),
    OutputFormat.PARQUET: ContainerFormat(ParquetFile()),
}


def format_of(output: OutputFormat) -> Format:
    return _FORMATS[output]
