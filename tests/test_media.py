"""W&B's objects and arrays get into a run, whoever holds them, and cost no row."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb

from wbtune._data.routing import Router
from wbtune._data.sanitize import plain_metric
from wbtune._run import media
from wbtune._run.run_spec import RunSpec


def picture(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


def pixels(image: Any) -> Any:
    return np.asarray(image.image)


# --- arrays --------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_three_dimensions_are_one_image(channels: int) -> None:
    """(H, W, C), pixel by pixel, with the user's arguments for it."""
    array = picture(5, 7, channels)
    made = media.made(array, RunSpec({}, image_kwargs={"caption": "c"}))
    assert isinstance(made, wandb.Image)
    assert np.array_equal(pixels(made).reshape(array.shape), array)
    assert made._caption == "c"  # no public way to ask


@pytest.mark.parametrize("count", [1, 2, 3])
def test_four_dimensions_are_as_many_images(count: int) -> None:
    """(N, H, W, C), in order; one of them is no list."""
    array = picture(count, 5, 7, 3)
    value = media.made(array, RunSpec({}))
    images = [value] if count == 1 else value
    assert len(images) == count
    assert all(isinstance(image, wandb.Image) for image in images)
    assert all(np.array_equal(pixels(image), one) for image, one in zip(images, array, strict=True))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_five_dimensions_are_as_many_videos(count: int, channels: int) -> None:
    """(N, T, C, H, W), in a format that can be made here; sizes may be odd."""
    value = media.made(picture(count, 2, channels, 5, 7), RunSpec({}))
    videos = [value] if count == 1 else value
    assert len(videos) == count
    assert {Path(video._path).suffix for video in videos} <= {".mp4", ".gif"}
    assert all(Path(video._path).stat().st_size for video in videos)


def test_a_videos_format_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """``video_kwargs`` win; without an encoder, the gif is made by Pillow, at the same speed."""
    array = picture(1, 3, 3, 4, 4)
    with pytest.raises(ValueError, match="accepts gif"):
        media.made(array, RunSpec({}, video_kwargs={"format": "mov"}))
    monkeypatch.setattr(media, "ENCODERS", ("PIL",))
    from PIL import Image

    for more in ({}, {"format": "gif"}):
        video = media.made(array, RunSpec({}, video_kwargs={"fps": 10, "caption": "c", **more}))
        with Image.open(video._path) as gif:
            assert (gif.format, gif.n_frames, gif.info["duration"]) == ("GIF", 3, 100)
        assert video._caption == "c"


def test_what_encodes_videos_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can, the reason has the cure."""
    monkeypatch.setattr(media, "ENCODERS", ())
    with pytest.raises(RuntimeError, match=r"pip install \"wandb\[media\]\""):
        media.made(picture(1, 2, 3, 4, 4), RunSpec({}))


# --- W&B's own objects ---------------------------------------------------------------------


class Page(wandb.Html):
    """A user's own, of a module that the helper might not have."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    run = wandb.init(
        project="p", mode="offline", dir=tmp_path_factory.mktemp("media"), reinit="create_new"
    )
    yield run
    run.finish()


def objects(folder: Path) -> dict[str, Any]:
    """One of each kind, as a trial's result has them."""
    image = wandb.Image(
        picture(4, 4, 3),
        masks={"m": {"mask_data": np.zeros((4, 4), int), "class_labels": {0: "a"}}},
    )
    (folder / "molecule.pdb").write_text("x")
    table = wandb.Table(["x", "y"], [[1, 2]])
    return {
        "image": image,
        "images": [wandb.Image(picture(4, 4, 3)), wandb.Image(picture(4, 4, 3))],
        "html": wandb.Html("<b>x</b>"),
        "page": Page("<b>x</b>"),
        "video": wandb.Video(media.made(picture(1, 2, 3, 4, 4), RunSpec({}))._path),
        "table": wandb.Table(["i"], [[image]]),
        "histogram": wandb.Histogram([1, 2]),
        "object": wandb.Object3D(np.zeros((3, 3))),
        "molecule": wandb.Molecule(str(folder / "molecule.pdb")),
        "chart": wandb.plot.line(table, "x", "y"),
        "nested": {"html": wandb.Html("x")},
        "mixed": [wandb.Html("x"), 3, {"deep": [wandb.Html("x")]}],
        "loss": 1,
    }


TYPES = {
    "image": "image-file",
    "images": "images/separated",
    "html": "html-file",
    "page": "html-file",
    "video": "video-file",
    "table": "table-file",
    "histogram": "histogram",
    "object": "object3D-file",
    "molecule": "molecule-file",
    "chart_table": "table-file",
    "nested/html": "html-file",
}


def test_each_object_arrives_and_stays_what_it_was(run: Any, tmp_path: Path) -> None:
    """After the trial's folder is gone; and whoever else holds the object can pickle it."""
    result = objects(tmp_path)
    kept = Router().snapshot(result, media.detached_copy)
    before = pickle.dumps(result)
    for value in ("html", "page", "object"):
        Path(result[value]._path).unlink()  # as the end of the trial's process does
    (tmp_path / "molecule.pdb").write_text("another")
    row, _ = Router().route(pickle.loads(pickle.dumps(kept)))
    row, left_out = media.log_media(run, row, RunSpec({}), 1)
    assert left_out == {}
    assert {key: row[key]["_type"] for key in TYPES} == TYPES
    assert row["loss"] == 1
    assert [type(one) for one in row["mixed"]] == [dict, int, dict]
    molecule = Path(run.dir, row["molecule"]["path"])
    assert molecule.read_text() == "x"
    run.log(row)
    assert pickle.dumps(result) == before


def test_what_is_gone_costs_its_own_key(run: Any) -> None:
    """It is described, with the reason; what stands beside it arrives."""
    gone, there = wandb.Html("x"), wandb.Html("y")
    Path(gone._path).unlink()
    row = {"gone": gone, "there": there, "loss": 1.0, "odd": picture(4, 4, 7)}
    row, _ = Router().route(Router().snapshot(row, media.detached_copy))
    row, left_out = media.log_media(run, row, RunSpec({}), 2)
    assert row["gone"] == "Html (not logged)"
    assert row["odd"] == "array of uint8 (4, 4, 7)"
    assert (row["there"]["_type"], row["loss"]) == ("html-file", 1.0)
    assert left_out.keys() == {"gone", "odd"}
    assert left_out["gone"].startswith("FileNotFoundError: ")


def test_what_is_wandbs_but_no_media_is_text() -> None:
    """Settings, say, which hold the key."""
    settings = wandb.Settings(api_key="k" * 40, mode="offline")
    assert "kkkk" not in str(plain_metric({"s": settings}))
