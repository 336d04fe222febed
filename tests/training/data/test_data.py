"""Finding, cutting, storing and caching footage."""

import json

import av
import cv2
import numpy as np
import pytest
from rich.console import Console

from tests.training.conftest import moving_frames, write_frames
from training.data.cache import ClipCache, detail_map
from training.data.cutting import Segmenter, SegmentSettings
from training.data.sources import find_sources
from training.data.subsets import nested_order
from training.errors import TrainingError
from training.prepare import PrepareSettings, prepare

pytestmark = pytest.mark.slow

QUIET = Console(quiet=True)


def write_video(path, frames):
    """Encodes frames losslessly in RGB."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"crf": "0"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def test_vimeo_layout_takes_only_the_listed_septuplets(tmp_path):
    for name in ("00001/0001", "00001/0002"):
        write_frames(tmp_path / "sequences" / name, moving_frames(2))
    (tmp_path / "sep_trainlist.txt").write_text("00001/0002\n00009/0009\n\n")
    names = [source.name for source in find_sources(tmp_path)]
    assert names == ["sequences/00001/0002"]


def test_vid4_layout_takes_only_the_ground_truth(tmp_path):
    for kind in ("GT", "BIx4"):
        write_frames(tmp_path / kind / "city", moving_frames(2))
    assert [s.name for s in find_sources(tmp_path)] == ["GT/city"]


def test_any_depth_of_frame_folders_and_videos_is_found_in_natural_order(tmp_path):
    for name in ("010", "9"):
        write_frames(tmp_path / "train_sharp" / name, moving_frames(2))
    write_video(tmp_path / "film.mkv", moving_frames(3))
    (tmp_path / ".hidden").mkdir()
    names = [source.name for source in find_sources(tmp_path)]
    assert names == ["film.mkv", "train_sharp/9", "train_sharp/010"]


def test_manifest_gives_licence_cuts_and_downscale(tmp_path):
    write_frames(tmp_path / "clips" / "river", moving_frames(2))
    records = [
        {
            "item": "train/river",
            "licence": "CC0-1.0",
            "suggested_area_downscale": 2,
            "flagged_transitions_heuristic": [5, 9],
        }
    ]
    (tmp_path / "known.json").write_text(json.dumps(records))
    (source,) = find_sources(tmp_path / "clips", tmp_path / "known.json")
    assert (source.licence, source.downscale, source.cuts) == ("CC0-1.0", 2, (5, 9))


@pytest.mark.parametrize("text", ["{", "[1]", '[{"name": "x"}]'])
def test_unreadable_manifest_is_one_clear_error(tmp_path, text):
    write_frames(tmp_path / "clips" / "river", moving_frames(2))
    (tmp_path / "known.json").write_text(text)
    with pytest.raises(TrainingError, match="must be a JSON list"):
        find_sources(tmp_path / "clips", tmp_path / "known.json")


def test_empty_folder_is_one_clear_error(tmp_path):
    with pytest.raises(TrainingError, match="holds nothing to train on"):
        find_sources(tmp_path)


def test_segments_end_at_cuts_stills_and_wild_motion():
    first, second = moving_frames(10, seed=1), moving_frames(10, seed=2) // 4
    still = np.concatenate([first, first[-1:], second])
    segmenter = Segmenter(SegmentSettings(length=30, min_length=3))
    clips = list(segmenter.clips(still))
    # Frames 9 and 10 are the same; at 11 another scene begins.
    assert [(start, len(frames)) for start, frames, _ in clips] == [(0, 10), (11, 10)]
    assert (segmenter.counts.still, segmenter.counts.cuts) == (1, 1)
    assert segmenter.counts.frames == 21 and segmenter.counts.kept == 20

    calm = Segmenter(SegmentSettings(length=30, min_length=3, max_motion=0.01))
    assert list(calm.clips(first)) == [] and calm.counts.wild == 9


def test_motion_of_a_pan_is_measured_in_pixels_of_the_frame():
    frames = moving_frames(8, height=128, width=192)
    ((_, _, motion),) = Segmenter(SegmentSettings(min_length=3)).clips(frames)
    assert 1.4 < motion < 2.6  # the pan is 2 pixels per frame


def test_known_cuts_divide_and_long_footage_is_cut_to_length():
    frames = moving_frames(12)
    settings = SegmentSettings(length=5, min_length=2)
    starts = [
        (start, len(clip))
        for start, clip, _ in Segmenter(settings, frozenset({3})).clips(frames)
    ]
    assert starts == [(0, 3), (3, 5), (8, 4)]


def test_prepared_clips_hold_exactly_the_footage(tmp_path):
    frames = moving_frames(9)
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mkv", frames)
    out = tmp_path / "shards"
    manifest = prepare(
        PrepareSettings(str(tmp_path / "videos"), str(out), downscale="1"), QUIET
    )
    assert (manifest["clips"], manifest["frames"]) == (1, 9)
    cache = ClipCache(out)
    assert len(cache) == 1 and cache.shape(0) == (9, 64, 96)
    np.testing.assert_array_equal(cache[0].frames, frames)
    # The second opening reads the cache instead of the shards.
    (out / manifest["shards"][0]["file"]).unlink()
    np.testing.assert_array_equal(ClipCache(out)[0].frames, frames)


def test_damaged_sources_are_skipped_counted_and_named(tmp_path, capsys):
    videos = tmp_path / "videos"
    write_frames(videos / "good", moving_frames(9))
    (videos / "broken.mp4").write_bytes(b"this is not a video")
    lines = Console(width=500)
    settings = PrepareSettings(str(videos), str(tmp_path / "out"), downscale="1")
    manifest = prepare(settings, lines)
    assert manifest["skipped"] == 1 and manifest["clips"] == 1
    text = capsys.readouterr().out
    assert "skipped: Cannot read" in text and "broken.mp4" in text


def test_preparing_again_only_makes_the_missing_shards(tmp_path, footage):
    out = tmp_path / "out"
    settings = PrepareSettings(str(footage), str(out), downscale="1")
    manifest = prepare(settings, QUIET)
    paths = [out / shard["file"] for shard in manifest["shards"]]
    assert len(paths) == 3
    before = {path: path.stat().st_mtime_ns for path in paths}
    paths[1].with_suffix(".json").unlink()
    paths[1].write_bytes(b"half a shard")
    assert prepare(settings, QUIET) == manifest
    after = {path: path.stat().st_mtime_ns for path in paths}
    assert [before[p] == after[p] for p in paths] == [True, False, True]
    assert len(ClipCache(out)) == 3


def test_only_still_footage_is_one_clear_error(tmp_path):
    frames = np.repeat(moving_frames(1), 12, axis=0)
    write_frames(tmp_path / "videos" / "still", frames)
    settings = PrepareSettings(str(tmp_path / "videos"), str(tmp_path / "out"))
    with pytest.raises(TrainingError, match="No clip of at least 7 moving frames"):
        prepare(settings, QUIET)


def test_damaged_cache_and_shard_are_clear_errors(tmp_path, footage):
    out = tmp_path / "out"
    manifest = prepare(PrepareSettings(str(footage), str(out), downscale="1"), QUIET)
    shard = out / manifest["shards"][0]["file"]
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match="missing or damaged"):
        ClipCache(out)
    assert not list(out.glob("cache-*"))  # nothing half-made is left
    shard.write_bytes(whole)
    folder = ClipCache(out).folder
    (folder / "index.npz").write_bytes(b"junk")
    with pytest.raises(TrainingError, match="Delete that folder"):
        ClipCache(out)


def test_missing_manifest_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(TrainingError, match="python -m training.prepare"):
        ClipCache(tmp_path)


def test_detail_map_equals_a_plain_loop(rng):
    frames = rng.integers(0, 256, (3, 37, 50, 3), dtype=np.uint8)
    expected = np.zeros((2, 3))
    green = frames[..., 1].astype(int)
    for t in range(3):
        for y in range(32):
            for x in range(48):
                change = abs(green[t, y, x] - green[t, y, x - 1]) if x else 0
                change += abs(green[t, y, x] - green[t, y - 1, x]) if y else 0
                change += abs(green[t, y, x] - green[t - 1, y, x]) if t else 0
                expected[y // 16, x // 16] += change / 256 / 3
    np.testing.assert_allclose(detail_map(frames), expected, rtol=1e-5)


def test_nested_order_is_balanced_at_every_length():
    groups = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    order = nested_order(groups, seed=5)
    assert sorted(order) == list(range(100))
    for count in range(1, 101):
        chosen = [groups[i] for i in order[:count]]
        for name, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
            assert abs(chosen.count(name) - share * count) <= 1.5
    assert not np.array_equal(order, nested_order(groups, seed=6))


def test_frames_survive_the_png_codec_and_jpeg_stays_close():
    from training.data.shards import _parse, encode_clip

    frames = moving_frames(3)
    for codec, limit in (("png", 0), ("jpeg", 40)):
        facts = {"start": 4, "motion": 1.5, "source": "s", "group": "g"}
        clip = _parse(encode_clip(frames, codec, **facts))
        decoded = np.empty_like(frames)
        clip.decode(decoded)
        assert cv2.absdiff(decoded, frames).max() <= limit
        assert (clip.start, clip.motion, clip.source, clip.group) == (4, 1.5, "s", "g")
