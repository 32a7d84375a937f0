"""The text form of a prompt timeline: a prompt a line, or FizzNodes' quoted pairs. What is in doubt is refused by its line."""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from .errors import JobRefused
from .job import MAX_FPS, MAX_FRAMES, MAX_TEXT, Prompt, checked

MAX_BYTES = 1 << 24  # of a file
BYTE_ORDER_MARK = "\ufeff"
FORMS = "`FRAME: text`, `SECONDSs: text` or `MIN:SEC text`"
_COLON = r"[:\uff1a]"  # also the one that Chinese keyboards type
_NUMBER = re.compile(rf"(?P<number>[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?)(?:\s*(?P<s>s))?\s*{_COLON}(?P<space>\s*)(?P<text>.*)")
_CLOCK = re.compile(
    rf"(?:(?P<hours>[0-9]{{1,4}}){_COLON}(?=[0-5][0-9]{_COLON}))?(?P<minutes>[0-9]{{1,6}}){_COLON}"
    rf"(?P<seconds>[0-5][0-9](?:\.[0-9]{{1,9}})?)(?:\s*{_COLON}(?![0-9])\s*|\s+(?:[-\u2013\u2014]\s+)?|$)(?P<text>.*)"
)
# What stands right behind a colon and may be the rest of a time: `16:9 wide`, `0:5 cats`, `1:30pm`; but not `0:1girl`.
_DOUBTFUL = re.compile(r"[0-9]+(?:[.,][0-9]+)?(?:s|secs?|m|mins?|h|am|pm)?(?![^\W_])", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(rf"(?P<whole>[0-9]+),(?P<part>[0-9]+)\s*s\s*{_COLON}")
_BETWEEN = re.compile(r"(?:\s+|#[^\n]*)*")  # pairs: space, and comments
_KEY = re.compile(rf'"\s*(?P<frame>[0-9]{{1,9}})\s*"\s*{_COLON}\s*(?=")')
_FIZZNODES_ONLY = re.compile(r"--neg\b|`")


@dataclass(frozen=True)
class Entry:
    """A prompt as it was written, with its line."""

    line: int
    number: float
    in_seconds: bool
    text: str

    def frame(self, fps: float) -> int:
        """Return the frame that it holds from."""
        return round(self.number * fps) if self.in_seconds else int(self.number)


def parse(text: str, *, fps: float, frames: int) -> tuple[Prompt, ...]:
    """Return the prompts of a timeline text; empty lines and lines that begin with # are skipped.

    Raises JobRefused that names the line: not of a form, not sorted, or past the end of the video.
    """
    if not 0 < fps <= MAX_FPS:
        raise JobRefused(f"fps: wanted more than 0 and at most {MAX_FPS}, got {fps:g}")
    entries = _read(text)
    prompts: list[Prompt] = []
    for entry in entries:
        frame = entry.frame(fps)
        if prompts and frame <= prompts[-1].frame:
            raise _unsorted(entry, f"frame {frame}", f"frame {prompts[-1].frame}")
        _check_end(entry, frame, frames)
        prompts.append(_prompt(entry, frame))
    _check_start(entries, fps)
    return tuple(prompts)


def check(text: str) -> None:
    """Raise JobRefused for what is wrong with a timeline at any frame rate and length."""
    entries = _read(text)
    for entry in entries:
        _check_end(entry, entry.frame(1.0), MAX_FRAMES)
        _prompt(entry, 0)
    for in_seconds, unit in ((False, "frame {:g}"), (True, "{:g}s")):
        for before, after in pairwise(entry for entry in entries if entry.in_seconds == in_seconds):
            if after.number <= before.number:
                raise _unsorted(after, unit.format(after.number), unit.format(before.number))
    _check_start(entries, 1.0)


def read_prompt(text: str, *, fps: float, frames: int) -> tuple[Prompt, ...]:
    """Return the prompts of a text that is one prompt for all frames or a timeline (`as_timeline`); raise JobRefused."""
    return parse(as_timeline(text), fps=fps, frames=frames)


def as_timeline(text: str) -> str:
    """Return a timeline's text as it is, and a plain prompt as a timeline of one line.

    A text of several lines is a timeline if any of them begins with a time, and then every one must; a text of one line
    is a timeline only if its time is 0, so that `1980s: neon` is a prompt. Raises JobRefused that names a line without.
    """
    text = text.lstrip(BYTE_ORDER_MARK)
    if not text.strip():
        raise JobRefused("prompt: wanted what is to be seen, got nothing: write it")
    if _KEY.match(text, _pairs_begin(text)):
        return text
    lines = list(_written(text))
    starts = [_start(line) for _, line in lines]
    timed = [number for (number, _), start in zip(lines, starts) if start is not None]
    if not timed or (len(lines) == 1 and starts[0] != 0):
        return "0: " + " ".join(text.split())
    for (number, line), start in zip(lines, starts):
        if start is None:
            raise JobRefused(
                f"prompt line {number} begins with no time, line {timed[0]} does: for a timeline begin every line with one "
                f"({FORMS}), for one prompt write one line; got {line[:60]!r}"
            )
    return text


def decode(data: bytes) -> str:
    """Return the text of a file: UTF-8, with or without a byte order mark, or UTF-16 with one. Raises JobRefused."""
    if len(data) > MAX_BYTES:
        raise JobRefused(f"timeline: wanted at most {MAX_BYTES} bytes, got more: give a text file")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise JobRefused(f"timeline line {line}: wanted UTF-8, got other bytes: save the file as UTF-8 text") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise JobRefused(f"timeline line {line}: wanted UTF-8, got a zero byte: save the file as UTF-8 text")
    return text


def _read(text: str) -> list[Entry]:
    """Return the entries of a text, in their order; at least one."""
    text = text.lstrip(BYTE_ORDER_MARK)
    begin = _pairs_begin(text)
    if text[begin : begin + 1] == '"' or text[_between(text, 0) :].startswith("{"):
        entries = list(_read_pairs("\n".join(text.splitlines())))
    else:
        entries = [_read_line(line, number) for number, line in _written(text)]
    if not entries:
        raise JobRefused("timeline: wanted a prompt for frame 0, got no line: begin with one such as `0: a cat wakes`")
    return entries


def _written(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of the lines that say something."""
    for number, line in enumerate(text.splitlines(), start=1):
        said = line.strip(BYTE_ORDER_MARK).strip()
        if said and not said.startswith("#"):
            yield number, said


def _read_line(line: str, number: int) -> Entry:
    """Return what a line says. Digits right behind a colon are a clock time's, or refused: they may be meant as one."""
    clock, counted, comma = _CLOCK.match(line), _NUMBER.match(line), _DECIMAL_COMMA.match(line)
    if clock is not None:
        entry = Entry(number, _clock_seconds(clock), True, clock["text"])
    elif comma is not None:
        raise JobRefused(
            f"timeline line {number}: got {comma[0][:60]!r}: write {comma['whole']}.{comma['part']}s, with a point"
        )
    elif counted is None:
        raise JobRefused(
            f"timeline line {number}: wanted {FORMS}, got {line[:60]!r}: begin it with its time, or with # to skip it"
        )
    elif _is_doubtful(counted):
        raise JobRefused(
            f"timeline line {number}: {line[:60]!r} may begin with a clock time or with a frame: write `MIN:SEC text`, the "
            f"seconds in two digits from 00 to 59, or `{counted['number']}: {counted['text'][:30]}`"
        )
    elif "." in counted["number"] and not counted["s"]:
        raise JobRefused(
            f"timeline line {number}: frame {counted['number']} is not whole: write {counted['number']}s for seconds"
        )
    else:
        entry = Entry(number, float(counted["number"]), bool(counted["s"]), counted["text"])
    if not entry.text:
        raise JobRefused(f"timeline line {number}: wanted {FORMS}, got {line[:60]!r}: write what is seen from then on")
    return entry


def _clock_seconds(clock: re.Match) -> float:
    return 3600 * int(clock["hours"] or 0) + 60 * int(clock["minutes"]) + float(clock["seconds"])


def _is_doubtful(counted: re.Match) -> bool:
    return not counted["s"] and not counted["space"] and _DOUBTFUL.match(counted["text"]) is not None


def _start(line: str) -> float | None:
    """Return the number that a line's time begins with, None if it begins with no time: a ratio such as 16:9 is none."""
    clock, counted = _CLOCK.match(line), _NUMBER.match(line)
    if clock is not None:
        return _clock_seconds(clock)
    if counted is None or (_is_doubtful(counted) and float(counted["number"]) != 0):
        return 0.0 if _KEY.match(line) else None
    return float(counted["number"])


def _between(text: str, place: int) -> int:
    """Return where the next thing that is neither space nor a comment begins."""
    return _BETWEEN.match(text, place).end()  # type: ignore[union-attr]


def _pairs_begin(text: str) -> int:
    """Return where the first pair begins, if the text is one of pairs: JSON's brace may stand around them."""
    begin = _between(text, 0)
    return _between(text, begin + 1) if text.startswith("{", begin) else begin


def _read_pairs(text: str) -> Iterator[Entry]:
    """Yield the entries of `"FRAME": "text", ...`, with or without braces around and a comma at the end."""
    braced = text.startswith("{", _between(text, 0))
    place, line = _pairs_begin(text), 1 + text.count("\n", 0, _pairs_begin(text))
    decoder = json.JSONDecoder(strict=False)  # a string may go on in the next line
    while place < len(text) and not (braced and text[place] == "}"):
        key = _KEY.match(text, place)
        if key is None:
            raise JobRefused(f'timeline line {line}: wanted `"FRAME": "text"`, got {_line_at(text, place)!r}')
        try:
            said, end = decoder.raw_decode(text, key.end())
        except json.JSONDecodeError as error:
            raise JobRefused(
                f'timeline line {line}: wanted `"FRAME": "text"`, got {_line_at(text, place)!r} ({error.msg}): '
                'in quotes, write \\" for a quote and \\\\ for a backslash'
            ) from None
        if (foreign := _FIZZNODES_ONLY.search(said)) is not None:
            raise JobRefused(
                f"timeline line {line}: {foreign[0]!r} of FizzNodes is not read: expressions have no meaning here, "
                "and what is not to be seen goes into negative"
            )
        yield Entry(line, float(key["frame"]), False, " ".join(said.splitlines()))
        next_place = _between(text, end)
        if text.startswith(",", next_place):
            next_place = _between(text, next_place + 1)
        elif next_place < len(text) and not (braced and text[next_place] == "}"):
            line += text.count("\n", place, next_place)
            raise JobRefused(f"timeline line {line}: wanted a comma between two prompts, got {_line_at(text, next_place)!r}")
        line += text.count("\n", place, next_place)
        place = next_place
    if braced and not re.fullmatch(r"\}[\s,]*", text[place:]):
        raise JobRefused(f"timeline line {line}: wanted one }} at the end, got {_line_at(text, place)!r}")


def _line_at(text: str, place: int) -> str:
    """Return the start of what a line says from a place on."""
    return text[place : place + 60].partition("\n")[0].strip()


def _prompt(entry: Entry, frame: int) -> Prompt:
    if len(entry.text) > MAX_TEXT:
        raise JobRefused(f"timeline line {entry.line}: text: wanted at most {MAX_TEXT} characters, got {len(entry.text)}")
    try:
        return checked(Prompt, frame=frame, text=entry.text)
    except JobRefused as error:
        raise JobRefused(f"timeline line {entry.line}: {error}") from None


def _check_end(entry: Entry, frame: int, frames: int) -> None:
    if frame >= frames:
        raise JobRefused(
            f"timeline line {entry.line}: frame {frame} is past the end of a video of {frames} frames: "
            f"use frames 0 to {frames - 1}"
        )


def _check_start(entries: list[Entry], fps: float) -> None:
    first = entries[0]
    if first.frame(fps) != 0:
        raise JobRefused(
            f"timeline line {first.line}: no prompt for frame 0, the first one is for {first.frame(fps)}: "
            "begin with a line such as `0: a cat wakes`"
        )


def _unsorted(entry: Entry, time: str, before: str) -> JobRefused:
    return JobRefused(f"timeline line {entry.line}: {time} does not come after {before}: sort the lines, one prompt a frame")
