"""The text form of a timeline: what people write is read as they mean it, or refused by its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel.cli import arguments, request
from parallel.job import timeline
from parallel.job.errors import JobRefused

FORMS = "`FRAME: text`, `SECONDSs: text` or `MIN:SEC text`"


def read(text, fps=8, frames=2000):
    return [(prompt.frame, prompt.text) for prompt in timeline.parse(text, fps=fps, frames=frames)]


def heard(text, fps=8, frames=2000):
    return [(prompt.frame, prompt.text) for prompt in timeline.read_prompt(text, fps=fps, frames=frames)]


def refusal(do, *arguments, **more) -> str:
    with pytest.raises(JobRefused) as refused:
        do(*arguments, **more)
    return str(refused.value)


def test_a_timeline_takes_frames_and_seconds():
    text = "# a comment\n0: a cat wakes\n\n 1.5s : it jumps: high \n20: it sleeps"
    assert read(text) == [(0, "a cat wakes"), (12, "it jumps: high"), (20, "it sleeps")]
    assert read("0: a\n0.7s: b") == [(0, "a"), (6, "b")], "5.6 frames: the nearest"


def test_clock_times_are_clock_times():
    assert read("0:00 sunrise\n1:30 noon") == [(0, "sunrise"), (720, "noon")]
    assert read("0:00: sunrise\n1:30: noon") == [(0, "sunrise"), (720, "noon")]
    assert read("00:00 - Intro\n0:01:30.5 \N{EN DASH} noon\n1:00:00 night", frames=10**5) == [
        (0, "Intro"),
        (724, "noon"),
        (28800, "night"),
    ]
    assert read("0: a\n4: b\n0:01 c\n1.5s: d") == [(0, "a"), (4, "b"), (8, "c"), (12, "d")]


def test_a_space_or_a_letter_behind_a_frames_colon_leaves_no_doubt():
    assert read("0: 00 balloons") == [(0, "00 balloons")]
    assert read("0:1girl, solo\n9:24k gold\n2s:30 dogs") == [(0, "1girl, solo"), (9, "24k gold"), (16, "30 dogs")]


@pytest.mark.parametrize("text", ["\ufeff0: a\r\n4:\tb\r\n", "0: a\r4: b", "\ufeff\n\ufeff0\uff1aa\n4\uff1a b"])
def test_marks_line_ends_tabs_and_the_wide_colon_are_read(text):
    assert read(text) == [(0, "a"), (4, "b")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_in_the_encodings_that_editors_write(encoding):
    assert read(timeline.decode("0: caf\xe9\r\n48: \u732b".encode(encoding))) == [(0, "caf\xe9"), (48, "\u732b")]


def test_the_command_line_reads_a_file_of_windows_notepad(tmp_path):
    file = tmp_path / "timeline.txt"
    args = arguments.build_parser().parse_args(["generate", "--timeline", str(file), "--frames", "99"])
    for encoding in ("utf-8-sig", "utf-16"):
        file.write_bytes("0: a\r\n0:02 b\r\n".encode(encoding))
        assert [(prompt.frame, prompt.text) for prompt in request.build_job(args).prompts] == [(0, "a"), (16, "b")]
    file.write_bytes(b"0: a\n0:02 caf\xe9")
    assert refusal(request.build_job, args).startswith("timeline line 2: wanted UTF-8, got other bytes")


def test_a_file_in_another_encoding_is_refused_by_its_line():
    wanted = "timeline line 2: wanted UTF-8, got other bytes: save the file as UTF-8 text"
    assert refusal(timeline.decode, b"0: a\n4: caf\xe9") == wanted
    wanted = "timeline line 1: wanted UTF-8, got a zero byte: save the file as UTF-8 text"
    assert refusal(timeline.decode, "0: a".encode("utf-16-le")) == wanted
    assert refusal(timeline.decode, b"#" * (timeline.MAX_BYTES + 1)).startswith("timeline: wanted at most 16777216 bytes")


@pytest.mark.parametrize(
    "text",
    [
        '"0": "a \\"big\\" cat",\n"48": "a dog"',
        '"0" :"a \\"big\\" cat",\n# then\n"48" : "a\ndog",\n',
        '{"0": "a \\"big\\" cat", "48": "a\\ndog",}',
        '\ufeff"0": "a \\"big\\" cat"\r\n,\r\n"48":"a dog"',
    ],
)
def test_the_quoted_form_of_fizznodes_is_read(text):
    assert read(text) == [(0, 'a "big" cat'), (48, "a dog")]
    assert heard(text) == read(text)


def test_a_quoted_prompt_may_be_empty():
    assert read('"0": "a",\n"9": ""') == [(0, "a"), (9, "")]


@pytest.mark.parametrize(
    "text, message",
    [
        ("0: a\n9: b\n3: c", "timeline line 3: frame 3 does not come after frame 9: sort the lines, one prompt a frame"),
        ("0: a\n9: b\n9: c", "timeline line 3: frame 9 does not come after frame 9: sort the lines, one prompt a frame"),
        ("0: a\n24: b", "timeline line 2: frame 24 is past the end of a video of 24 frames: use frames 0 to 23"),
        ("0: a\n3s: b", "timeline line 2: frame 24 is past the end of a video of 24 frames: use frames 0 to 23"),
        ("0: a\n0:03 b", "timeline line 2: frame 24 is past the end of a video of 24 frames: use frames 0 to 23"),
        ("a cat", f"timeline line 1: wanted {FORMS}, got 'a cat': begin it with its time, or with # to skip it"),
        ("0: a\n4: ", f"timeline line 2: wanted {FORMS}, got '4:': write what is seen from then on"),
        ("0: a\n0:01", f"timeline line 2: wanted {FORMS}, got '0:01': write what is seen from then on"),
        ("0: a\n-4: b", f"timeline line 2: wanted {FORMS}, got '-4: b': begin it with its time, or with # to skip it"),
        ("0: a\n4.5: b", "timeline line 2: frame 4.5 is not whole: write 4.5s for seconds"),
        ("0: a\n4,5s: b", "timeline line 2: got '4,5s:': write 4.5s, with a point"),
        ("0: a\n4: \x1b[3mb", "timeline line 2: text: wanted no control characters, got '\\x1b': remove it"),
        (
            "0: a\n" + "9" * 400 + "s: b",
            f"timeline line 2: wanted {FORMS}, got '{'9' * 60}': begin it with its time, or with # to skip it",
        ),
        ("0: " + "a" * 10_001, "timeline line 1: text: wanted at most 10000 characters, got 10001"),
        (
            "# x\n3: a",
            "timeline line 2: no prompt for frame 0, the first one is for 3: begin with a line such as `0: a cat wakes`",
        ),
        ("", "timeline: wanted a prompt for frame 0, got no line: begin with one such as `0: a cat wakes`"),
        ('"0": "a"\n"9": "b"', 'timeline line 2: wanted a comma between two prompts, got \'"9": "b"\''),
        ('"0": "a",\n9: b', 'timeline line 2: wanted `"FRAME": "text"`, got \'9: b\''),
        ('"0": "a",\n"max_f": "b"', 'timeline line 2: wanted `"FRAME": "text"`, got \'"max_f": "b"\''),
        ('{"0": "a",\n"9": "b"', "timeline line 2: wanted one } at the end, got ''"),
        ('{"0": "a",\n"9": "b"} junk', "timeline line 2: wanted one } at the end, got '} junk'"),
    ],
)
def test_a_wrong_timeline_is_refused_by_its_line(text, message):
    assert refusal(timeline.parse, text, fps=8, frames=24) == message


@pytest.mark.parametrize(
    "line", ["1:5 a", "1:60 a", "1:30, a", "1:30. a", "1:30pm a", "1:30s: a", "0:01:30:12 a", "0:01:30a", "1:0.5 a", "1 :30 a"]
)
def test_what_may_be_a_clock_time_or_a_frame_is_refused_and_not_guessed(line):
    said = refusal(timeline.parse, "0: x\n" + line, fps=8, frames=2000)
    assert said.startswith(f"timeline line 2: {line!r} may begin with a clock time or with a frame: write `MIN:SEC text`")


@pytest.mark.parametrize("line", ['"9": "b', '"9": "b\\(c"', '"9": b'])
def test_a_broken_quoted_line_is_refused_by_its_line(line):
    assert refusal(read, f'"0": "a",\n{line}').startswith('timeline line 2: wanted `"FRAME": "text"`, got ')


@pytest.mark.parametrize("text", ["b --neg c", "b `sin(t)`"])
def test_what_only_fizznodes_reads_is_refused_and_not_taken_for_words(text):
    assert refusal(read, f'"0": "a",\n"9": "{text}"').startswith("timeline line 2: '")


@pytest.mark.parametrize(
    "prompt",
    ["1980s: neon", "16:9 video of a cat", "2001: a space odyssey", "48: a dog", '"hi" says a cat', "# 1 fan", "1:5 a"],
)
def test_one_line_that_does_not_begin_at_0_is_a_prompt(prompt):
    assert heard(prompt) == [(0, prompt)]


def test_a_prompt_of_many_lines_is_one_prompt():
    assert heard("a cat,\n\n  wide,\r\n16:9\n") == [(0, "a cat, wide, 16:9")]


def test_a_text_with_times_is_a_timeline():
    assert heard("0: a") == heard("\ufeff0s: a") == heard("0:00 a") == [(0, "a")]
    assert heard("# my film\n\n0: a\n1s: b") == [(0, "a"), (8, "b")]
    assert refusal(heard, "3: a\n9: b").startswith("timeline line 1: no prompt for frame 0")
    assert refusal(heard, "0:5 cats").startswith("timeline line 1: '0:5 cats' may begin with a clock time")


@pytest.mark.parametrize(
    "text, line, timed",
    [("My film\n0: a\n9: b", 1, 2), ("0: a\nb", 2, 1), ("a city,\n1980s: neon", 1, 2), ('x\n"0": "a"', 1, 2)],
)
def test_a_mixture_of_prompt_and_timeline_is_refused_by_its_line(text, line, timed):
    said = refusal(heard, text)
    assert said.startswith(f"prompt line {line} begins with no time, line {timed} does: for a timeline begin every line with")


def test_no_prompt_is_refused():
    assert refusal(heard, " \n") == "prompt: wanted what is to be seen, got nothing: write it"


@pytest.mark.parametrize("text", ["0: a\n0.3s: b\n0.6s: c", "0: a\n4.5s: b\n120: c", "0: a\n60: b\n4s: c\n0:20 d", '"0": "a"'])
def test_what_fits_some_frame_rate_and_length_passes_the_check(text):
    timeline.check(text)
    assert timeline.parse(text, fps=24, frames=600), "such as this"


def test_what_fits_no_frame_rate_or_length_fails_the_check():
    assert refusal(timeline.check, "0: a\n9: b\n3: c").startswith("timeline line 3: frame 3 does not come after frame 9")
    assert refusal(timeline.check, "0: a\n0:09 b\n3s: c").startswith("timeline line 3: 3s does not come after 9s")
    assert refusal(timeline.check, "0: a\n1000000: b").startswith("timeline line 2: frame 1000000 is past the end")
    assert refusal(timeline.check, "2s: a").startswith("timeline line 1: no prompt for frame 0")
    assert refusal(timeline.check, "0: \x1b").startswith("timeline line 1: text: wanted no control characters")


@pytest.mark.parametrize("fps", [0, -8, float("nan"), float("inf"), 1e9])
def test_a_frame_rate_that_is_none_is_refused(fps):
    with pytest.raises(JobRefused, match=r"^fps: wanted more than 0 and at most 240, got "):
        timeline.parse("0: a\n2s: b", fps=fps, frames=24)


LINES = st.from_regex(r"[0-9]{1,12}(\.[0-9]{1,12})?s?: ?[a-z]*", fullmatch=True)
PAIRS = st.lists(st.tuples(st.text(max_size=5), st.text(max_size=9)), max_size=4)
TEXTS = st.text(max_size=200) | st.lists(LINES, max_size=5).map(lambda lines: "\n".join(["0: a", *lines]))


@given(TEXTS | PAIRS.map(lambda pairs: ",\n".join(f'"{key}": "{text}"' for key, text in [("0", "a"), *pairs])))
def test_any_text_is_a_timeline_or_refused(text):
    for form in (timeline.parse, timeline.read_prompt):
        try:
            parsed = form(text, fps=8, frames=24)
        except JobRefused:
            continue
        assert parsed[0].frame == 0 and all(0 <= prompt.frame < 24 for prompt in parsed)


@pytest.mark.parametrize(
    "text", ["1" + " " * 10**6 + "x", '"0":"a",' + "\n#" * 10**5 + "\nx", "1:30" + "\t" * 10**6 + "x", "((" * 10**6]
)
def test_a_hostile_text_takes_no_time(text):
    with pytest.raises(JobRefused):
        timeline.parse(text, fps=8, frames=24)
