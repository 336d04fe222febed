"""Open files with FFmpeg as files: names are names, whatever characters they hold.

FFmpeg takes `a:b.mp4` for an address with the protocol `a`; after `file:` it is a name.
Tags that are not UTF-8 are shown with replacement marks instead of ending the job.
"""

import stat
from pathlib import Path

import av

from keras_megan.video.errors import VideoError, reading

# What FFmpeg opens besides videos: text shown as pictures, and scripts or lists that
# would make it open other files and addresses.
_NO_VIDEOS = {"tty", "bin", "adf", "idf", "xbin", "concat", "hls", "dash", "sdp"}


def open_input(path: Path) -> av.container.InputContainer:
    """Opens a file for reading; raises what FFmpeg raises (see `errors.reading`)."""
    return av.open(f"file:{path}", metadata_errors="replace")


def open_output(
    path: Path, options: dict[str, str] | None = None
) -> av.container.OutputContainer:
    """Opens a file for writing; raises what FFmpeg raises (see `errors.writing`)."""
    return av.open(f"file:{path}", "w", options=options or {})


def check_file(path: Path) -> None:
    """Raises `VideoError` unless `path` is a regular file with something in it."""
    with reading(path):
        facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise VideoError(
            f"Cannot read '{path}': it is a pipe or a device. A job reads its input "
            "more than once, so save it to a file first."
        )
    if facts.st_size == 0:
        raise VideoError(f"Cannot read '{path}': the file is empty.")


def is_cover(stream) -> bool:
    """Whether a video stream is only a picture that belongs to the file."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def main_video_stream(container: av.container.InputContainer, path: Path):
    """The first video stream that is not a cover picture."""
    if container.format.name in _NO_VIDEOS:
        raise VideoError(
            f"Cannot read '{path}': it is not a video (FFmpeg takes it for "
            f"{container.format.long_name})."
        )
    videos = [s for s in container.streams.video if not is_cover(s)]
    if not videos:
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        raise VideoError(
            f"'{path}' has no video stream (it holds: {kinds or 'nothing'}). "
            "Give a video file or a folder of images."
        )
    known = [stream for stream in videos if stream.codec_context is not None]
    if not known:
        raise VideoError(
            f"Cannot read '{path}': FFmpeg does not know how its pictures are coded; "
            "the file may be damaged."
        )
    return known[0]
