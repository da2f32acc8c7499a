"""Every limit, and the words in which it refuses."""

import math
import os
from typing import Annotated, Any, Literal

import pytest

from bptt_lab.core.validation import (
    ConfigError,
    Ge,
    Gt,
    Le,
    Lt,
    OnlyWith,
    ReadableFile,
    check,
    checked,
    unmet,
)


@pytest.mark.parametrize(
    "limit, fine, wrong, words",
    [
        (Ge(1), [1, 2, 1.0], [0, 0.99, math.nan], "must be at least 1"),
        (Ge(0.5), [0.5], [0.49], "must be at least 0.5"),
        (Gt(0), [1e-9, 1], [0, -1, math.nan], "must be greater than 0"),
        (Le(1), [1, 0.5], [1.1, math.nan], "must be at most 1"),
        (Le("k"), [4, 3], [5], "must be at most k=4"),
        (Lt(1), [0.99, -1], [1, 2, math.nan], "must be less than 1"),
        (Lt("k"), [3], [4, 5], "must be less than k=4"),
    ],
)
def test_bounds(limit, fine, wrong, words):
    siblings = {"k": 4}
    assert [unmet(value, Annotated[Any, limit], siblings) for value in fine] == [None] * len(fine)
    assert [unmet(value, Annotated[Any, limit], siblings) for value in wrong] == [words] * len(
        wrong
    )


@pytest.mark.parametrize("limit", [Le("k"), Lt("k")])
@pytest.mark.parametrize("siblings", [{}, {"k": None}, {"k": "many"}])
def test_a_bound_on_a_setting_without_a_number_limits_nothing(limit, siblings):
    assert unmet(10**9, Annotated[Any, limit], siblings) is None


def test_only_with():
    limit = OnlyWith("mode", "window")
    assert limit.unmet(3, {"mode": "window"}) is None
    words = "only means something with mode=window; leave it null"
    assert limit.unmet(3, {"mode": "lag"}) == limit.unmet(3, {}) == words


def test_readable_file(tmp_path, monkeypatch):
    limit, text, empty = ReadableFile(), tmp_path / "text", tmp_path / "empty"
    text.write_text("some")
    empty.touch()
    assert limit.unmet(str(text), {}) is None
    assert limit.unmet(str(tmp_path / "none"), {}) == (
        "must be an existing file, but there is none; give the path of one"
    )
    assert limit.unmet(str(tmp_path), {}) == (
        "must be a file, but it is a folder; give the path of a file in it"
    )
    assert limit.unmet(str(empty), {}) == (
        "must hold some data, but the file is empty; give another one"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    assert limit.unmet("~/text", {}) is None
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert limit.unmet(str(text), {}) == (
        "must be readable, but you may not read it; change its permissions"
    )


@pytest.mark.parametrize(
    "hint, fine, wrong, words",
    [
        (int, [0, -3], [1.0, "1", True, None, [1]], "must be an integer"),
        (float, [1, 0.5, -2], ["1", True, None], "must be a number"),
        (float, [], [math.nan, math.inf, -math.inf], "must be a finite number"),
        (str, ["", "a"], [1, None, True], "must be a text"),
        (bool, [True, False], [0, 1, "true", None], "must be true or false"),
        (None, [None], [0, ""], "must be null"),
        (Literal["a", "b"], ["a", "b"], ["c", None, 1, []], "must be one of a, b"),
        (int | None, [1, None], ["1", 1.5], "must be an integer or null"),
        (str | int, ["a", 1], [1.5, None], "must be a text or an integer"),
        (Literal["a"] | None, ["a", None], ["b"], "must be one of a or null"),
        (list[int], [[], [1, 2], (1,)], [1, "ab", None], "must be a list"),
        (list[int], [], [[1, "a"], ["a"], [True]], "must be an integer"),
        (Annotated[int, Ge(1)], [1], ["1", 1.5], "must be an integer"),
        (Annotated[int, Ge(1), Le(3)], [1, 3], [0], "must be at least 1"),
        (Annotated[int, Ge(1), Le(3)], [2], [4], "must be at most 3"),
        (Annotated[int | None, Ge(1)], [None, 1], [0], "must be at least 1"),
        (list[Annotated[float, Gt(0)]], [[1.0]], [[1.0, 0.0]], "must be greater than 0"),
        (Any, [1, "a", None, object()], [], ""),
        (dict, [{}, 1], [], ""),
    ],
)
def test_types(hint, fine, wrong, words):
    assert [unmet(value, hint, {}) for value in fine] == [None] * len(fine)
    assert [unmet(value, hint, {}) for value in wrong] == [words] * len(wrong)


def test_check_names_key_value_limit():
    with pytest.raises(ConfigError) as refusal:
        check("lr", -1, Annotated[float, Gt(0)], {})
    assert str(refusal.value) == "lr=-1: must be greater than 0"
    assert isinstance(refusal.value, ValueError)
    check("lr", 0.1, Annotated[float, Gt(0)], {})


def test_a_message_is_one_line_whatever_the_value():
    with pytest.raises(ConfigError) as refusal:
        check("mode", "lag\nchunk", Literal["lag", "chunk"], {})
    assert "\n" not in str(refusal.value)


class Made:
    @checked
    def __init__(
        self,
        positional: int = 0,
        *,
        k: Annotated[int, Ge(1)] = 4,
        mode: Literal["lag", "window"] = "lag",
        k1: Annotated[int | None, Le("k"), OnlyWith("mode", "window")] = None,
        free=None,
    ) -> None:
        """Make it."""
        self.settings = (positional, k, mode, k1, free)


class Sub(Made):
    def __init__(self, k: int) -> None:
        super().__init__(k=k)


def test_checked_lets_good_settings_through():
    assert Made().settings == (0, 4, "lag", None, None)
    assert Made(1, k=2, mode="window", k1=2, free="x").settings == (1, 2, "window", 2, "x")
    assert Sub(3).settings[1] == 3


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"k": 0}, "k=0: must be at least 1"),
        ({"positional": "a"}, "positional=a: must be an integer"),
        ({"mode": "tail"}, "mode=tail: must be one of lag, window"),
        ({"mode": "window", "k1": 5}, "k1=5: must be at most k=4"),
        ({"k": 2, "k1": 1}, "k1=1: only means something with mode=window; leave it null"),
    ],
)
def test_checked_refuses_before_anything_is_made(settings, message):
    with pytest.raises(ConfigError) as refusal:
        Made(**settings)
    assert str(refusal.value) == message
    with pytest.raises(ConfigError, match="k=0"):
        Sub(0)


def test_checked_keeps_the_constructors_face():
    assert Made.__init__.__doc__ == "Make it."
    with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
        Made(depth=1)
    with pytest.raises(TypeError):
        Made(0, 1)
