"""Read the summary of a run from its logs: wandb-core writes each of its changes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple

from wbtune._run.log_records import (
    DAMAGE,
    ITEM,
    ROW_OR_SUMMARY,
    SUMMARIES,
    VALUE,
    inner_dict,
    payloads,
)
from wbtune._upstream import wandb_records

#: How to merge the values computed for a metric in two logs (``define_metric(summary="min")``).
_MERGED_BY: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "min": min,
    "max": max,
    "first": lambda earlier, _: earlier,
}

#: How many bytes of a record precede the first key of an item, at least.
_SHORTEST: Final = 3

#: For how many kinds of summary records the last record is remembered at the same time.
_KINDS: Final = 8


def summary(paths: Iterable[Path], summarized: Collection[str] = ()) -> dict[str, Any]:
    """Return the summary that the logs of one run add up to.

    wandb-core writes each of its changes to the log: what was set, and what it computes
    from the rows.

    Args:
        paths: the logs, the oldest first.
        summarized: metrics, or patterns of them, whose minimum, say, wandb-core computes; it does
            so from the rows of each log alone.
    """
    computed: list[dict[str, Any]] = []
    # By place, and still as text: one key may have a million values, of which only one counts.
    leaves: dict[tuple[str, ...], str] = {}
    # The first names of nested places.
    deep: set[str] = set()
    for path in paths:
        for changes in _last_changes(path):
            _apply(leaves, deep, changes)
        if summarized:
            computed.append(computed_in(_tree(leaves), summarized))
    found = _tree(leaves)
    for one in computed[:-1]:
        found |= {
            key: merge_computed(value, found[key]) for key, value in one.items() if key in found
        }
    return found


class _Kind(NamedTuple):
    """The records that set the same places of the summary.

    Attributes:
        places: the places, as they are in the records' bytes.
        last: the last of these records.
        before: the previous one, if there is one; it counts if the last is damaged.
    """

    places: tuple[bytes, ...]
    last: bytes
    before: bytes = b""

    def change(self) -> Any:
        """Return what they set, according to the last of them that can be parsed."""
        new_record = wandb_records.record_type()
        try:
            return new_record.FromString(self.last).summary
        except wandb_records.not_a_record():
            pass
        try:
            return new_record.FromString(self.before).summary
        except wandb_records.not_a_record():
            return new_record().summary

    def is_of(self, payload: bytes) -> bool:
        """Return whether this is one of them; it has the same number of places."""
        for place in self.places:
            at = payload.find(place)
            # It must follow the beginning of an item, whose length has one or two bytes;
            # otherwise an outer name comes before it.
            if at < _SHORTEST or ITEM not in {payload[at - 2], payload[at - 3]}:
                return False
        return True


def _last_changes(path: Path) -> Iterator[Any]:
    """Yield the changes of the summary in a log, without those that later ones overwrite.

    With each row, wandb-core sets the same places again. Only the last of such records counts,
    and parsing only that one makes a long log quick to read.
    """
    new_record = wandb_records.record_type()
    kinds: list[_Kind] = []
    for payload in payloads(path, SUMMARIES):
        count = payload.count(VALUE)
        same = [kind for kind in kinds if len(kind.places) == count and kind.is_of(payload)]
        if same:
            kinds.remove(same[0])
            kinds.append(same[0]._replace(last=payload, before=same[0].last))  # the newest is last
            continue
        try:
            record = new_record.FromString(payload)
        except wandb_records.not_a_record():
            break
        if record.WhichOneof("record_type") != "summary":
            continue
        places = tuple(map(_in_bytes, record.summary.update))
        if ROW_OR_SUMMARY(payload) and len(places) == count and not record.summary.remove:
            kinds.append(_Kind(places, payload))
            if len(kinds) <= _KINDS:
                continue
            yield kinds.pop(0).change()
            continue
        yield from (kind.change() for kind in kinds)
        kinds.clear()
        yield record.summary
    yield from (kind.change() for kind in kinds)


def _in_bytes(item: Any) -> bytes:
    """Return the place that an item of a summary sets, as it is in the record's bytes."""
    names = [(0x12, name) for name in item.nested_key] or [(0x0A, item.key)]
    parts = [(tag, name.encode()) for tag, name in names]
    return b"".join(bytes([tag, len(name) & 0xFF]) + name for tag, name in parts) + VALUE


def _apply(leaves: dict[tuple[str, ...], str], deep: set[str], changes: Any) -> None:
    for item in changes.remove:
        _drop(leaves, deep, _place(item))
    for item in changes.update:
        place = _place(item)
        _drop(leaves, deep, place)
        leaves[place] = item.value_json
        if len(place) > 1:
            deep.add(place[0])


def _place(item: Any) -> tuple[str, ...]:
    return tuple(item.nested_key) or (item.key,)


def _drop(leaves: dict[tuple[str, ...], str], deep: set[str], place: tuple[str, ...]) -> None:
    """Remove a value, and everything nested in it."""
    if len(place) == 1 and place[0] in deep:
        deep.discard(place[0])
        for other in [other for other in leaves if other[0] == place[0]]:
            del leaves[other]
    leaves.pop(place, None)


def _tree(leaves: Mapping[tuple[str, ...], str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for (*outer, last), text in leaves.items():
        with contextlib.suppress(*DAMAGE):  # only that key is lost
            inner_dict(found, outer)[last] = json.loads(text) if text else None
    return found


def computed_in(summary: Mapping[str, Any], summarized: Collection[str]) -> dict[str, Any]:
    """Return the values that wandb-core has computed for these metrics: ``{"min": 0.1}``, say."""
    return {
        key: value
        for key, value in summary.items()
        if isinstance(value, dict)
        and value.keys() & _MERGED_BY.keys()
        and any(fnmatchcase(key, metric) for metric in summarized)
    }


def merge_computed(earlier: Any, later: Any) -> Any:
    """Merge the values computed from the rows of two logs, as if from all their rows.

    A mean can't be computed from two means: the later one is kept.
    """
    if not (isinstance(earlier, dict) and isinstance(later, dict)):
        return later
    both = {}
    for how, choose in _MERGED_BY.items():
        with contextlib.suppress(KeyError, TypeError):  # not computed, or not numbers
            both[how] = choose(earlier[how], later[how])
    return {**later, **both}
