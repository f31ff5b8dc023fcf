"""Files of the Hugging Face hub, fetched in silence and without the libraries' long retries where no hub answers.

What is in the hub's cache still loads without a network: the libraries are asked for local files only.
"""

from __future__ import annotations

import logging
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from invert.errors import InputError

TIMEOUT = 5  # seconds that the hub has to answer in
HTTP_CLIENTS = ("httpx", "httpcore", "requests", "urllib3")  # of the hub's library, by its version
LIBRARIES = ("huggingface_hub", "transformers", "diffusers", "open_clip")


def is_offline() -> bool:
    """Whether the hub must not be asked (HF_HUB_OFFLINE), or does not answer."""
    return constants.HF_HUB_OFFLINE or not _answers()


def _answers() -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=TIMEOUT)
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


def refused(repository: str, error: BaseException) -> InputError | None:
    """What the hub says against a repository's name, or against who asks; None where the error is another one.

    Libraries raise errors of their own in the place of the hub's, which are then their context.
    """
    for cause in causes(error):
        if isinstance(cause, GatedRepoError):
            return InputError(
                f"the model {repository!r} is given out by permission: accept its terms on the hub and run `hf auth login`"
            )
        if isinstance(cause, RepositoryNotFoundError | HFValidationError):
            return InputError(f"the hub has no model {repository!r} that may be read: check the name")
    return None


def out_of_reach(error: BaseException) -> bool:
    """Whether the hub did not answer, or refused; else files are missing or damaged."""
    return any(
        isinstance(one, LocalEntryNotFoundError | ConnectionError | TimeoutError)
        or (isinstance(one, HfHubHTTPError) and not isinstance(one, EntryNotFoundError))
        or type(one).__module__.partition(".")[0] in HTTP_CLIENTS
        for one in causes(error)
    )


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised for or upon."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def cached(repository: str, file: str) -> Path:
    """The folder in the hub's cache that a file at a repository's top lies in."""
    return Path(hf_hub_download(repository, file, local_files_only=True)).parent


class Repository:
    """A model repository of the hub, whose files are fetched as they are needed."""

    def __init__(self, name: str, repository: str, part: str = "weights") -> None:
        """name: what the user called the model. repository: its name on the hub. part: what of the model it holds."""
        self.name, self.repository, self.part = name, repository, part
        self.offline = is_offline()

    def fetch(self, patterns: Sequence[str]) -> Path:
        """The folder in the hub's cache that holds the files of those patterns, as far as the repository has them.

        Raises:
            InputError: the repository cannot be reached, does not exist, or may not be read.
        """
        try:
            with quiet():
                return Path(snapshot_download(self.repository, allow_patterns=list(patterns), local_files_only=self.offline))
        except Exception as error:  # the hub and its HTTP client raise anything from OSError to RuntimeError here
            raise refused(self.repository, error) or self.unreachable() from error

    def unreachable(self) -> InputError:
        if self.part == "weights":
            return unreachable(self.name)
        return InputError(
            f"the {self.part} of {self.name!r} cannot be reached: download {self.repository} on a connected machine into the "
            "Hugging Face cache, or give a folder that holds the model with its tokenizer"
        )


def fetch_first(repository: Repository, patterns: Sequence[str]) -> Path:
    """The first file of a repository that one of the patterns finds.

    Raises:
        InputError: none does.
    """
    for pattern in patterns:
        found = sorted(repository.fetch([pattern]).glob(pattern))
        if found:
            return found[0]
    if repository.offline:
        raise repository.unreachable()
    raise InputError(
        f"the repository {repository.repository!r} holds no {repository.part} of a name that is read here "
        f"({', '.join(patterns)}): give another one"
    )


def unreachable(name: str) -> InputError:
    """The error for weights that are neither in the cache nor to be had."""
    return InputError(
        f"the weights of {name!r} cannot be reached: download them on a connected machine and give the "
        'folder or checkpoint (ARCHITECTURE/path.pt), or use `model="picturebook"`'
    )


class _OfLibraries(logging.Filter):
    """Drops what the model libraries log in one thread; open_clip writes to the root logger."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        by = record.name.partition(".")[0]
        ours = by in LIBRARIES or (record.name == "root" and "open_clip" in Path(record.pathname).parts)
        return record.thread != self.thread or not ours


@contextmanager
def quiet() -> Iterator[None]:
    """Within the context, nothing that the model libraries log in this thread is shown; our sentence says it all."""
    root = logging.getLogger()
    places: list[logging.Filterer] = [root, *root.handlers]
    for name in LIBRARIES:
        places += [logging.getLogger(name), *logging.getLogger(name).handlers]
    if logging.lastResort is not None:  # where nobody configured any handler
        places.append(logging.lastResort)
    dropping = _OfLibraries()
    for place in places:
        place.addFilter(dropping)
    bars = sys.modules.get("transformers.utils.logging")  # transformers draws a progress bar of its own while it loads
    drawn = bars is not None and bars.is_progress_bar_enabled()
    if bars is not None and drawn:
        bars.disable_progress_bar()
    try:
        yield
    finally:
        if bars is not None and drawn:
            bars.enable_progress_bar()
        for place in places:
            place.removeFilter(dropping)
