"""Steps and pipelines as they are defined: what can be one, what it takes and gives."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import pytest

import zen_mlmd as zm
from zen_mlmd.errors import InvalidValueError, PipelineDefinitionError, ReturnValueError, UsageError
from zen_mlmd.pipelines.draft import Node

if TYPE_CHECKING:
    from nowhere import Tensor  # type: ignore[import-not-found]


@zm.step
def load(path: str = "x") -> list[int]:
    return [len(path)]


@zm.step
def show(value: Any, *more: Any, **named: Any) -> str:
    return repr((value, more, named))


@zm.step
def pair() -> tuple[Annotated[int, "a"], Annotated[int, "b"]]:
    return 1, 2


@zm.step
def nothing() -> None: ...


def plan(function: Callable[..., Any], *args: Any) -> list[Node]:
    return zm.pipeline(function).plan(*args)


# -- what can be a step


class Kind:
    def __call__(self) -> int:
        return 1

    def method(self, x: int) -> int:
        return x


def coroutine() -> Any:
    async def f() -> int:
        return 1

    return f


def generator() -> Any:
    def f() -> Any:
        yield 1

    return f


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (int, "this is a type"),
        (max, "builtin_function"),
        (functools.partial(max, 1), "this is a partial"),
        (Kind(), "this is a Kind"),
        ("name", "this is a str"),
        (coroutine(), "coroutine"),
        (generator(), "generator"),
        (Kind.method, "Kind.method is a method"),
    ],
)
def test_only_plain_functions_are_steps_and_pipelines(function: Any, says: str) -> None:
    for decorator in (zm.step, zm.pipeline):
        with pytest.raises(UsageError, match=f"@{decorator.__name__}.*{says}") as caught:
            decorator(function)
        assert caught.value.hint


def test_steps_in_a_class_that_take_no_self_are_functions() -> None:
    class Steps:
        @zm.step
        def load(path: str) -> int:  # noqa: N805 - it is a namespace
            return len(path)

        plain = staticmethod(zm.step(lambda: 2))

    assert Steps.load("abc") == 3
    assert Steps.plain() == 2
    assert zm.step(Kind().method)(5) == 5
    assert zm.step(functools.lru_cache(lambda x: x))(5) == 5


def test_parameters_that_the_decorators_take_for_themselves_are_refused() -> None:
    with pytest.raises(UsageError, match="parameter 'after'"):
        zm.step(lambda after: after)
    for function in (lambda name: name, lambda enable_cache: enable_cache):
        with pytest.raises(UsageError, match="which @pipeline takes for itself"):
            zm.pipeline(function)
    outside = zm.step(lambda self, x: (self, x))
    assert outside(self=1, x=2) == (1, 2)


class Upper(zm.Materializer):
    types = (str,)

    def write(self, value: Any, directory: Path) -> None: ...

    def read(self, directory: Path, data_type: type) -> Any: ...


class Half(zm.Materializer):
    types = (str,)

    def write(self, value: Any, directory: Path) -> None: ...


def test_materializers_of_a_step_are_classes_that_readers_find() -> None:
    class Local(Upper): ...

    wrongs: list[Any] = [int, {"output": "x"}, "x", Half, {"output": Upper()}]
    for wrong in wrongs:
        with pytest.raises(UsageError, match="subclasses of Materializer"):
            zm.step(materializers=wrong)(lambda: "x")
    with pytest.raises(UsageError, match="defined in a function"):
        zm.step(materializers=Local)(lambda: "x")
    assert zm.step(materializers=Upper)(lambda: "x").materializers == {"output": Upper}
    assert zm.step(materializers={"output": Upper})(lambda: "x").materializers == {"output": Upper}


@pytest.mark.parametrize("wrong", [0, -1, "2", 1.5, True])
def test_max_parallel_is_a_number(wrong: Any) -> None:
    asks: list[Callable[[], Any]] = [
        lambda: zm.pipeline(max_parallel=wrong)(load.function),
        lambda: zm.pipeline(load.function).options(max_parallel=wrong),
    ]
    for ask in asks:
        with pytest.raises(UsageError, match="max_parallel is not a number"):
            ask()


def test_unknown_options_of_a_pipeline_are_said() -> None:
    asks: list[Callable[[], Any]] = [
        lambda: zm.pipeline(speed=3)(load.function),
        lambda: zm.pipeline(load.function).options(speed=3),
    ]
    for ask in asks:
        with pytest.raises(UsageError, match="no such option of a pipeline: speed") as caught:
            ask()
        assert "max_parallel" in caught.value.hint


# -- what it returns


class One(NamedTuple):
    x: int


class Late(NamedTuple):
    x: Tensor


def test_one_annotation_that_only_type_checkers_know_does_not_cost_the_others() -> None:
    @zm.step
    def f(x: Tensor) -> tuple[Annotated[int, "a"], Annotated[int, "b"]]: ...  # type: ignore[empty-body]

    assert f.outputs == {"a": int, "b": int}


def test_names_of_the_enclosing_function_are_known() -> None:
    class Local(NamedTuple):
        left: int
        right: int

    @zm.step
    def f() -> Local:
        return Local(1, 2)

    @zm.step
    def again(n: int) -> Local:
        return Local(1, 2) if n == 0 else again(n - 1)

    assert list(f.outputs) == list(again.outputs) == ["left", "right"]


def unknown() -> Tensor: ...


def unknown_inside() -> Annotated[Tensor, "model"]: ...


def unknown_field() -> Late: ...  # type: ignore[empty-body]


def nameless() -> Annotated[int, " "]: ...  # type: ignore[empty-body]


def unprintable() -> Annotated[int, "a\0b"]: ...  # type: ignore[empty-body]


@pytest.mark.parametrize("function", [unknown, unknown_inside, unknown_field, nameless, unprintable])
def test_a_return_annotation_that_says_no_outputs_is_refused(function: Any) -> None:
    with pytest.raises(PipelineDefinitionError, match=function.__name__) as caught:
        zm.step(function)
    assert "Annotated" in caught.value.hint


def test_a_wrapper_is_read_with_the_names_of_what_it_wraps() -> None:
    def doubled(f: Any) -> Any:
        @functools.wraps(f)
        def wrapper(*args: Any) -> Any:
            return f(*args)

        return wrapper

    @zm.step
    @doubled
    def f() -> One: ...  # type: ignore[empty-body]

    assert f.outputs == {"x": int}
    assert zm.step(inspect.unwrap(f)).outputs == {"x": int}


@pytest.mark.parametrize("annotation", [One, tuple[Annotated[int, "x"]]])
def test_a_tuple_of_one_is_taken_apart_as_one_of_two_is(annotation: Any) -> None:
    def f() -> Any: ...

    f.__annotations__["return"] = annotation
    returns = zm.step(f).returns
    assert returns.split((5,), "f") == {"x": 5}
    for wrong in (5, (), (1, 2), [1]):
        with pytest.raises(ReturnValueError, match="has the outputs x"):
            returns.split(wrong, "f")


# -- what it takes


def test_an_output_is_not_looked_at_while_the_pipeline_is_put_together() -> None:
    looks: list[Callable[[Any], Any]] = [
        lambda rows: "y" if rows == [1] else "n",
        lambda rows: "y" if rows != [1] else "n",
        lambda rows: f"{rows}",
        lambda rows: f"{rows:>3}",
        lambda rows: "%s" % rows,  # noqa: UP031 - as it may be written
        lambda rows: str(rows),  # noqa: PLW0108
        lambda rows: 1 in rows,
        lambda rows: [*rows],
        lambda rows: rows.attribute,
    ]
    for look in looks:
        with pytest.raises(PipelineDefinitionError, match="has no value yet"):
            plan(lambda look=look: look(load()))


def test_an_output_shows_itself_in_a_few_words() -> None:
    shown: list[str] = []

    def chain() -> None:
        value = load()
        for _ in range(40):
            value = show(value, value)
        shown.append(repr(value))

    plan(chain)
    assert shown == ["<Output 'output' of step 'show_40'>"]


def test_what_cannot_be_passed_on_says_so() -> None:
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: show(nothing()), "'nothing' has no output"),
        (lambda: show([nothing()]), "'nothing' has no output"),
        (lambda: show({"a": load()}), "inside of a dict"),
        (lambda: show([[load()]]), "nested list"),
        (lambda: show([load(), 1]), "among plain values"),
        (lambda: show({load()}), "among plain values"),
        (lambda: show(1, after=None), "after="),  # type: ignore[arg-type]
        (lambda: show(1, after=load), "after="),  # type: ignore[arg-type]
        (lambda: show(1, after=[1]), "after="),  # type: ignore[list-item]
        (lambda: show(1, value=2), "multiple values"),
    ]
    for call, says in cases:
        with pytest.raises(PipelineDefinitionError, match=says) as caught:
            plan(call)
        assert caught.value.hint
    assert [node.name for node in plan(lambda: show(1, after=[pair(), nothing()]))] == [
        "pair",
        "nothing",
        "show",
    ]


def test_an_output_of_another_pipeline_is_refused() -> None:
    kept: dict[str, Any] = {}

    def first() -> None:
        kept["rows"] = load()

    def second() -> None:
        load("other")
        show(kept["rows"])

    def third() -> None:
        show(1, after=kept["rows"])

    plan(first)
    for function in (second, third):
        with pytest.raises(PipelineDefinitionError, match="belongs to another pipeline"):
            plan(function)


def test_a_parameter_is_what_it_was_when_the_step_was_called() -> None:
    def loop() -> None:
        config: dict[str, Any] = {"layers": []}
        for depth in (1, 2):
            config["depth"] = depth
            config["layers"].append(depth)
            show(config)

    assert [node.parameters["value"] for node in plan(loop)] == [
        {"layers": [1], "depth": 1},
        {"layers": [1, 2], "depth": 2},
    ]


def test_a_parameter_that_cannot_be_recorded_is_refused_by_name_when_it_is_given() -> None:
    for wrong in (object(), [Kind()], int, sys):
        with pytest.raises(InvalidValueError, match=r"show\.value") as caught:
            plan(lambda wrong=wrong: show(wrong))
        assert "let a step make" in caught.value.hint
        with pytest.raises(InvalidValueError, match=r"churn\.rows"):
            zm.pipeline(name="churn")(lambda rows: load())(wrong)


def test_a_keyword_of_a_positional_parameters_name_is_refused() -> None:
    @zm.step
    def f(a: int, /, *args: int, **named: int) -> Any:
        return a, args, named

    assert f(1, 2, a=3, args=4) == (1, (2,), {"a": 3, "args": 4})
    clashes: list[dict[str, Any]] = [{"a": 5}, {"args": 5}]
    for named in clashes:
        with pytest.raises(
            PipelineDefinitionError, match=f"{next(iter(named))!r} is the name of a positional"
        ):
            plan(lambda named=named: f(1, **named))
    (node,) = plan(lambda: f(1, 2, named=5))
    assert node.parameters == {"a": 1, "args": (2,), "named": 5}


def test_arguments_that_do_not_fit_a_pipeline_say_so() -> None:
    with pytest.raises(
        PipelineDefinitionError, match="pipeline 'churn': missing a required argument"
    ) as caught:
        zm.pipeline(name="churn")(lambda rows: show(rows, 1))()
    assert caught.value.hint == "it is churn(rows)"


def test_many_uses_of_a_step_are_put_together_in_a_moment() -> None:
    def many() -> None:
        value = load()
        for _ in range(3000):
            value = show(value)

    nodes = plan(many)
    assert [node.name for node in nodes[:3]] == ["load", "show", "show_2"]
    assert nodes[-1].waits_for == {"show_2999"}
