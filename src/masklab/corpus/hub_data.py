"""Data sets of the Hugging Face hub, or folders that `datasets` can load, streamed as documents.

A name is hub:OWNER/NAME and after it, with commas, what is needed: config=, split= (train unless said), column= (the
field that the command names unless said), revision=. A folder in place of OWNER/NAME touches no network; one that
`save_to_disk` wrote is mapped into memory.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from masklab.corpus.formats import Fields, Raw, of_batch, wanted_columns
from masklab.errors import BadInput

_KNOWN = ("config", "split", "column", "revision")
_ROWS = 256  # at a time


def rows(given: str, fields: Fields) -> Iterator[Raw]:
    """The rows in order, numbered from 1, with the text of one column, and the group that another names."""
    try:
        from datasets.exceptions import DatasetsError
        from pyarrow import ArrowException
    except ImportError:
        raise BadInput(f"{given}: data sets of the hub need `datasets`: pip install 'masklab[data]'") from None
    name, *rest = given.removeprefix("hub:").split(",")
    options: dict[str, str] = {key: value for key, _, value in (item.partition("=") for item in rest)}
    wrong = [item for item in options if item not in _KNOWN]
    if wrong or not name:
        raise BadInput(f"{given}: write hub:OWNER/NAME, and after it with commas any of: {'=, '.join(_KNOWN)}=")
    fields, row = fields._replace(text=options.get("column", fields.text)), 1
    try:
        for table in _opened(name, options).with_format("arrow").iter(_ROWS):
            columns = wanted_columns(table.schema, fields, given)
            for batch in table.select(columns).to_batches():
                yield from of_batch(batch, fields, given, row)
                row += len(batch)
    except (DatasetsError, ArrowException, ValueError, OSError) as error:
        why = " ".join(str(error).split())[:300]
        raise BadInput(
            f"{given}: cannot be read ({type(error).__name__}: {why}); check the name, config= and split="
        ) from None


def _opened(name: str, options: dict[str, str]) -> Any:
    """A data set to iterate over: streamed, or mapped if `save_to_disk` wrote it."""
    import datasets

    split = options.get("split", "train")
    folder = Path(name).expanduser()
    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        found = datasets.load_from_disk(str(folder))
        if not isinstance(found, datasets.DatasetDict):
            return found
        if split not in found:
            raise BadInput(f"hub:{name} has no split {split!r}; its splits: {', '.join(map(str, found))}; say split=")
        return found[split]
    return datasets.load_dataset(
        name, options.get("config"), split=split, revision=options.get("revision"), streaming=True
    )
