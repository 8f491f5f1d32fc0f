"""A queue of messages to the helper, which are only prepared when it is their turn.

Tune's loop only appends. The thread that sends them also filters, sanitises and packs.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from wbtune._driver.notices import Notices
from wbtune._driver.rows import Rows
from wbtune._driver.unacknowledged import Unacknowledged
from wbtune._helper.messages import Log, Message, OfNoRun, Packed, Upload, pack

#: The most messages in a batch, and their bytes: if there are more, the helper begins with the
#: first batch while the next is being prepared.
BATCH: Final = 500
BATCH_BYTES: Final = 8_000_000
#: When many results are filled in, how many are sent before the helper has carried them out.
AHEAD: Final = 10 * BATCH

#: Returns the messages of an entry when it is its turn; one that is None means "not yet".
Messages = Callable[[], Iterator[Message | OfNoRun | None]]
#: Ends the messages of an entry.
_END: Final[Any] = object()


#: An entry of the queue, and the run's key, if it is a single row.
_Entry: TypeAlias = tuple[Messages, str | None]


class MessageQueue:
    """An ordered queue of messages, taken off in batches by one thread.

    Args:
        rows: turns results into rows.
        unacknowledged: keeps the messages that were taken off.
        notices: gives warnings of messages that can't be sent.

    Attributes:
        is_closed: nothing is taken off any more: new rows are counted, other entries dropped.
        is_flood: the last batch was full, so there may be more to send at once.
        waits: the next message has to be sent later.
        lost: how many rows of each run were lost.
    """

    def __init__(self, rows: Rows, unacknowledged: Unacknowledged, notices: Notices) -> None:
        self.is_closed = False
        self.is_flood = False
        self.waits = False
        self.lost: Counter[str] = Counter()
        self._rows = rows
        self._unacknowledged = unacknowledged
        self._notices = notices
        self._entries: deque[_Entry] = deque()
        # The remaining messages of the entry that is being sent, and the run of its row.
        self._current: Iterator[Message | OfNoRun | None] = iter(())
        self._current_row: str | None = None
        # Lost rows that the run's summary can still count.
        self._unsent: Counter[str] = Counter()

    @property
    def is_empty(self) -> bool:
        """Is nothing left on it?"""
        return not self._entries

    def put(self, messages: Messages) -> None:
        """Add messages."""
        if not self.is_closed:  # nothing would take them off
            self._entries.append((messages, None))

    def put_row(self, key: str, result: dict[str, Any]) -> None:
        """Add a result of a run."""
        if self.is_closed:
            self.lost[key] += 1
        else:
            self._entries.append((partial(self._row, key, result, time.time()), key))

    def put_rows(self, key: str, results: Callable[[], Iterator[Mapping[str, Any]]]) -> None:
        """Add many results, which are only generated as they are sent."""

        def messages() -> Iterator[Message | None]:
            for result in results():
                while self._unacknowledged.count(key) > AHEAD and not self.is_closed:
                    yield None
                yield from self._row(key, dict(result), time.time())

        self.put(messages)

    def _row(self, key: str, result: dict[str, Any], reported: float) -> Iterator[Log]:
        if self._rows.is_open(key):
            yield from self._rows.messages(key, result, reported)
        else:
            self.lost[key] += 1

    def take_unsent(self, key: str) -> int:
        """Return how many rows of a run could not be sent, and reset that count."""
        return self._unsent.pop(key, 0)

    # --- by the thread that sends ---

    def batch(self) -> list[Packed]:
        """Take off the next messages, ready to be sent."""
        batch: list[Packed] = []
        size = 0
        self.waits = False
        while len(batch) < BATCH and size < BATCH_BYTES and not self.waits:
            try:
                message = next(self._current, _END)
                if message is None:
                    self.waits = True
                elif message is not _END:
                    batch.append(self._packed(message))
                    size += len(batch[-1].data)
                elif self._entries:
                    self._begin(self._entries.popleft())
                else:
                    break
            except BaseException as error:  # noqa: BLE001 - whatever it is, warn and continue
                self._note_unsent(error)
        self.is_flood = len(batch) >= BATCH or size >= BATCH_BYTES
        return batch

    def _begin(self, entry: _Entry) -> None:
        messages, self._current_row = entry
        self._current = messages()

    def _packed(self, message: Message | OfNoRun) -> Packed:
        # Each is packed by itself, so that one which can't be packed costs no other.
        packed = pack(message)
        self._unacknowledged.add(message, packed)
        return packed

    def _note_unsent(self, error: BaseException) -> None:
        key = self._current_row
        # Cause: A value could not be sent to the helper process.
        # Cure: Report plain numbers, text, arrays or W&B's media.
        what = "a message is left out" if key is None else "a row was lost"
        self._notices.warn(key or "", f"{what}: {type(error).__name__}: {error}")
        if key is not None:
            self._unsent[key] += 1

    # --- when nothing can be written any more ---

    def drop_all(self, why: str) -> None:
        """Count the rows that can't be written, and delete the copies of checkpoints.

        That includes what was sent but not carried out.

        Args:
            why: the reason, for warnings.
        """
        self.is_closed = True
        rows, uploads = self._unacknowledged.rows(), self._unacknowledged.uploads()
        while (message := self._next_dropped(rows)) is not _END:
            if isinstance(message, Log):
                rows[message.key] += 1
            elif isinstance(message, Upload):
                uploads.append(message)
        self.lost += rows + self._unsent
        for upload in uploads:
            what = f"{upload.checkpoint.source} ({upload.checkpoint.name})"
            # Message: none by itself.
            self._notices.warn(upload.key, f"{what} was not uploaded: {why}")
            upload.checkpoint.discard()

    def _next_dropped(self, rows: Counter[str]) -> Any:
        try:
            message = next(self._current, _END)
            if message is _END and self._entries:
                self._begin(self._entries.popleft())
                return None
        except BaseException as error:  # noqa: BLE001 - a message that could not have been sent
            if self._current_row is not None:
                rows[self._current_row] += 1
            else:
                # Message: none by itself.
                self._notices.warn("", f"a message is left out: {type(error).__name__}: {error}")
            return None
        return message
