"""Progress on a terminal, in a pipe, and silent."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from haina.runtime import progress
from haina.runtime.progress import PlainProgress, Reporter, RichProgress, SilentProgress, default_reporter


def terminal() -> tuple[RichProgress, io.StringIO]:
    stream = io.StringIO()
    return RichProgress(Console(file=stream, force_terminal=True, width=160, color_system=None)), stream


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_plain_lines_carry_rate_time_left_and_the_number_that_matters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, stream = Clock(), io.StringIO()
    monkeypatch.setattr(progress, "time", clock)
    with PlainProgress(stream).task("训练 train", 1200, "steps", done=200) as task:
        clock.now += 2
        task.advance(100, "loss 5.1")
        clock.now += 3
        task.advance(150)
        clock.now += 5
        task.advance(750, "loss 3.2")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "  训练 train: 450/1,200 steps, 50.0/s, 15 s left, loss 5.1"
    assert lines[-1] == "  训练 train: 1,200/1,200 steps, 100.0/s, loss 3.2"


def test_plain_lines_do_not_flood_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(), io.StringIO()
    monkeypatch.setattr(progress, "time", clock)
    with PlainProgress(stream).task("pages", None, "pages") as task:
        for _ in range(10_000):
            clock.now += 0.001
            task.advance()
    assert len(stream.getvalue().splitlines()) <= 3
    assert "10,000 pages" in stream.getvalue()


def test_the_last_line_is_written_when_work_fails() -> None:
    stream = io.StringIO()

    def fail() -> None:
        with PlainProgress(stream).task("页面", 10, "pages") as task:
            task.advance(3)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert "页面: 3/10 pages" in stream.getvalue()


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=20), st.none() | st.integers(0, 10), st.text(max_size=10), st.text(max_size=20))
def test_a_terminal_takes_any_text(description: str, total: int | None, unit: str, note: str) -> None:
    reporter, _ = terminal()
    with reporter.task(description, total, unit) as task:
        task.advance(1, note)
        task.advance(0.5)
    reporter.say(note)


@pytest.mark.parametrize("text", ["[/data/页面]", "[red]海[/red]", "[/]", "\\[x]", "[link=javascript:1]x"])
def test_square_brackets_are_not_markup(text: str) -> None:
    reporter, stream = terminal()
    reporter.say(text)
    with reporter.task(text, 2, text) as task:
        task.advance(1, f"note {text}")
    assert stream.getvalue().startswith(text)
    assert f"note {text}" in stream.getvalue()


def test_a_note_stays_until_the_next_one() -> None:
    reporter, stream = terminal()
    with reporter.task("train", 3, "steps") as task:
        task.advance(1, "loss 4.2")
        task.advance(1)
    last = [line for line in stream.getvalue().splitlines() if "train" in line][-1]
    assert "2/3" in last
    assert "loss 4.2" in last


def test_a_task_within_a_task() -> None:
    reporter, stream = terminal()
    with reporter.task("corpus", 2, "parts") as outer, reporter.task("read", 5, "pages") as inner:
        inner.advance(5)
        outer.advance(2)
    assert "read" in stream.getvalue()
    assert "corpus" in stream.getvalue()


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    reporter: Reporter = SilentProgress()
    with reporter.task("x", 1, "y") as task:
        task.advance(1, "note")
    reporter.say("z")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_pipe_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(default_reporter(), PlainProgress)
