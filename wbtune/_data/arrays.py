"""Media objects and arrays: which are logged as pictures, and how the others are logged."""

from __future__ import annotations

from typing import Any, Final

from wbtune._data import fields

HISTOGRAM_BINS: Final = 32

_MEDIA_DIMENSIONS = (3, 4, 5)


def is_media(value: Any) -> bool:
    """Is this one of W&B's own objects that can be logged (Image, Table, Histogram, …)?"""
    return any(
        name in {"WBValue", "CustomChart"} and module.partition(".")[0] == "wandb"
        for module, name in fields.class_names(value)
    )


def is_media_array(value: Any) -> bool:
    """Is this an array that Ray's callback logs as images or videos?"""
    if type(value).__module__ != "numpy":
        return False
    return (
        getattr(value, "ndim", 0) in _MEDIA_DIMENSIONS
        and hasattr(value, "dtype")  # np.broadcast has dimensions, but no values
        and value.dtype.kind in "biuf"
    )


def as_numpy(value: Any) -> Any:
    """An array or tensor as a NumPy array with items of a type that Python has too."""
    import numpy as np  # noqa: PLC0415 - needed only where arrays are logged

    if hasattr(value, "detach"):  # torch: bfloat16 has no NumPy type
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    array = np.asarray(value)
    if array.dtype.char == "g":  # a long double, which Python does not have
        array = array.astype(float)
    elif array.dtype.char == "G":
        array = array.astype(complex)
    return array


def histogram(array: Any) -> Any:
    """W&B's JSON form of a histogram, over the finite values."""
    import numpy as np  # noqa: PLC0415 - see as_numpy

    finite = array[np.isfinite(array)].astype(float)
    if not finite.size:
        return f"array of {array.dtype} {tuple(array.shape)}, no finite value"
    counts, edges = np.histogram(finite, bins=HISTOGRAM_BINS)
    return {"_type": "histogram", "values": counts.tolist(), "bins": edges.tolist()}
