"""Log W&B's own media objects, and arrays that are images or videos.

Such an object names a file in a temporary folder of the process that made it, and logging
it ties it to the run: after that it can't be pickled. So a copy with a file of its own is logged
(`detached_copy`). Each key is logged by itself (`log_media`), so that an object which W&B can't log
costs only its own key.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wbtune._data import arrays
from wbtune._run import guard
from wbtune._upstream import wandb_core, wandb_media

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wandb import Run

    from wbtune._run.run_spec import RunSpec

#: Modules that make videos; wandb uses the first.
ENCODERS: Final = ("moviepy", "PIL")
_CURE: Final = 'pip install "wandb[media]"'
_FRAMES_PER_S: Final = 4  # wandb's default


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return this process's folder for media; a run moves its files from there into its own."""
    return tempfile.TemporaryDirectory(prefix="wbtune-media-", ignore_cleanup_errors=True)


def detached_copy(value: Any) -> Any:
    """Copy a W&B object; the copy is not tied to a run, and has its own files."""
    return wandb_media.detached_copy(value, _take_file)


def _take_file(path: str, *, changes: bool) -> str | None:
    """Return another name for a file, or a copy of it; None if it is gone, or not a file.

    Args:
        path: the file's path.
        changes: whether it is the user's file, which may be overwritten later.
    """
    if not Path(path).is_file():
        return None
    handle, own = tempfile.mkstemp(suffix="".join(Path(path).suffixes), dir=_folder().name)
    os.close(handle)
    if not changes:
        Path(own).unlink()
        with contextlib.suppress(OSError):  # on another file system
            os.link(path, own)
            return own
    shutil.copyfile(path, own)
    return own


def is_media(value: Any) -> bool:
    """Return whether `log_media` has to log a value: one of W&B's objects, or a list with some."""
    if value is None or isinstance(value, (int, float, str)):
        return False
    if type(value) is list:
        return any(map(is_media, value))
    if type(value) is dict:
        return any(map(is_media, value.values()))
    return arrays.is_media(value) or arrays.is_media_array(value)


def has_media(row: Mapping[str, Any]) -> bool:
    """Return whether a row has anything for `log_media`."""
    return any(map(is_media, row.values()))


def log_media(
    run: Run, row: dict[str, Any], spec: RunSpec, step: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Put a row's media into the run's folder, and W&B's references to them into the row.

    ========== ==================== ============================
    dimensions shape                becomes
    ========== ==================== ============================
    3          (H, W, C)            one image
    4          (N, H, W, C)         N images
    5          (N, T, C, H, W)      N videos
    ========== ==================== ============================

    Args:
        run: an open run.
        row: a row whose objects are used nowhere else (see `detached_copy`).
        spec: the run's spec, which says how images and videos are made.
        step: the row's step.

    Returns:
        ``(row, left_out)``: the row, and the reason for each key that could not be logged;
        such a value is replaced by a description, so that the row itself is never lost.
    """
    done: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for key, value in row.items():
        if not is_media(value):
            done[key] = value
            continue
        try:
            media = made(value, spec) if arrays.is_media_array(value) else value
            done.update(_logged(run, key, media, step))
        except Exception as error:  # noqa: BLE001 - wandb's codecs may raise anything
            done[key] = described(value)
            left_out[key] = f"{type(error).__name__}: {error}"
    return done, left_out


def described(value: Any) -> str:
    """Describe a value that can't be logged."""
    if arrays.is_media_array(value):
        return f"array of {value.dtype} {value.shape}"
    return f"{type(value).__name__} (not logged)"


def _logged(run: Run, key: str, value: Any, step: int) -> dict[str, Any]:
    """Return a value's entries of the row: usually one under its key; a chart has its table's."""
    if run.disabled:
        return {key: described(value)}
    if type(value) is list and not all(map(arrays.is_media, value)):
        # wandb itself would not look into such a list.
        parts = [_logged(run, key, one, step) if is_media(one) else {key: one} for one in value]
        return {key: [part.get(key, part) for part in parts]}
    if type(value) is dict:
        inner = [_logged(run, name, one, step) for name, one in value.items()]
        return {key: {name: one for part in inner for name, one in part.items()}}
    try:
        return wandb_media.media_json(run, key, value, step)
    except wandb_core.core_is_gone():
        protection = guard.of(run)
        if protection is None or not protection.survive():
            raise
        again = [*map(detached_copy, value)] if type(value) is list else detached_copy(value)
        return wandb_media.media_json(run, key, again, step)


def made(array: Any, spec: RunSpec) -> Any:
    """Make an array into an image, a video, or a list of them (see `log_media`).

    Raises:
        Exception: what wandb raises for its shape, or what an encoder raises.
    """
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    images = dict(spec.image_kwargs)
    match array.ndim:
        case 3:
            return wandb.Image(array, **images)
        case 4:
            several: list[Any] = [wandb.Image(item, **images) for item in array]
        case _:
            several = [_video(item, dict(spec.video_kwargs)) for item in array]
    return several[0] if len(several) == 1 else several


def _video(array: Any, given: dict[str, Any]) -> Any:
    """Return a video of an array (T, C, H, W), in the given format or in one that can be made here.

    Raises:
        RuntimeError: if no encoder is installed.
        Exception: what the encoder raises, for a given format.
    """
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    reason = ""
    found = [name for name in ENCODERS if importlib.util.find_spec(name)]
    wanted = given.get("format")
    if wanted is not None and not (wanted == "gif" and found == ["PIL"]):
        return wandb.Video(array, **given)
    if "moviepy" in found:
        try:
            return wandb.Video(array, **{**given, "format": "mp4"})
        except Exception as error:  # noqa: BLE001 - no ffmpeg, an odd size, other channels
            reason = f" ({type(error).__name__}: {error})"
    if "PIL" in found:
        return _gif(array, given)
    # Message: a warning by itself.
    # Cause: It is inside another line, as the reason.
    msg = f"there is nothing to encode a video with{reason}. Run: {_CURE}"
    raise RuntimeError(msg)


def _gif(array: Any, given: dict[str, Any]) -> Any:
    import wandb  # noqa: PLC0415 - wandb is imported when first needed
    from PIL import Image  # noqa: PLC0415 - needed for videos only

    pixels = array.astype("uint8").transpose(0, 2, 3, 1)  # as wandb.Video does
    grey = pixels.shape[-1] == 1
    frames = [Image.fromarray(one[..., 0] if grey else one) for one in pixels]
    written = io.BytesIO()
    frames[0].save(
        written,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=1000 // (given.get("fps") or _FRAMES_PER_S),
        loop=0,
    )
    written.seek(0)
    return wandb.Video(written, caption=given.get("caption"), format="gif")
