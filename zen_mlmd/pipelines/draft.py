"""A pipeline being put together: the steps that it uses, and what each takes from others."""

from __future__ import annotations

import contextvars
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from zen_mlmd.errors import InvalidValueError, PipelineDefinitionError
from zen_mlmd.values import dumps, loads

if TYPE_CHECKING:
    from zen_mlmd.pipelines.step import Step


@dataclass(frozen=True, eq=False, repr=False)
class Handle:
    """What a step will make, while a pipeline is being put together: to be passed to other steps.

    Attributes:
        node: The step's use.
        name: The output's; empty for what a step without outputs gives, which can only be waited for.
    """

    node: Node
    name: str

    def _no_value(self) -> NoReturn:
        raise PipelineDefinitionError(
            f"output {self.name!r} of step {self.node.name!r} has no value yet: the pipeline is still being "
            "put together",
            hint="pass it to another step, and look at it there",
        )

    def __repr__(self) -> str:
        return f"<Output {self.name!r} of step {self.node.name!r}>"

    def __str__(self) -> str:  # noqa: PLE0307 - it raises
        self._no_value()

    def __format__(self, spec: str) -> str:
        self._no_value()

    def __eq__(self, other: object) -> bool:
        self._no_value()

    __hash__ = object.__hash__

    def __bool__(self) -> bool:  # noqa: PLE0304 - it raises
        self._no_value()

    def __iter__(self) -> NoReturn:
        self._no_value()

    def __contains__(self, item: object) -> bool:
        self._no_value()

    def __len__(self) -> int:  # noqa: PLE0303 - it raises
        self._no_value()

    def __getitem__(self, key: object) -> NoReturn:
        self._no_value()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._no_value()


@dataclass(eq=False)
class Node:
    """One use of a step in a pipeline."""

    step: Step
    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Handle | list[Handle]] = field(default_factory=dict)
    after: tuple[Node, ...] = ()

    @property
    def waits_for(self) -> set[str]:
        """The names of the steps that must end before."""
        return {handle.node.name for handle in self.handles()} | {node.name for node in self.after}

    def handles(self) -> list[Handle]:
        """All that it takes from other steps."""
        many = (value if isinstance(value, list) else [value] for value in self.inputs.values())
        return [handle for handles in many for handle in handles]


class Draft:
    """A pipeline being put together.

    Attributes:
        nodes: The uses of steps by name, in the order of the calls; each waits only for earlier ones.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._numbers: dict[str, int] = {}

    def add(self, node: Node) -> None:
        """Add a use of a step; a second one of the same name is called `name_2`, and so on.

        Raises:
            PipelineDefinitionError: It takes from, or waits for, a step of another pipeline.
        """
        for other in (*(handle.node for handle in node.handles()), *node.after):
            if self.nodes.get(other.name) is not other:
                raise PipelineDefinitionError(
                    f"step {node.name!r} is given an output of step {other.name!r} that belongs to another "
                    "pipeline, or to another run of this one",
                    hint="call that step in this pipeline too",
                )
        base = node.name
        number = self._numbers.get(base, 1)
        while node.name in self.nodes:
            number += 1
            node.name = f"{base}_{number}"
        self._numbers[base] = number
        self.nodes[node.name] = node


draft: contextvars.ContextVar[Draft | None] = contextvars.ContextVar("zen_mlmd_draft", default=None)


def handles_of(value: Any) -> Handle | list[Handle] | None:
    """Return the outputs that an argument is; None if it is a plain value.

    Raises:
        PipelineDefinitionError: It holds outputs in a way that cannot be passed on.
    """
    if isinstance(value, Handle):
        return _takeable(value)
    if not _holds_handle(value):
        return None
    if isinstance(value, (list, tuple)) and all(isinstance(each, Handle) for each in value):
        return [_takeable(each) for each in value]
    raise PipelineDefinitionError(
        "steps' outputs among plain values, or inside of a dict or a nested list, cannot be passed to a step",
        hint="pass them as arguments of their own, or as one list of nothing else",
    )


def nodes_of(after: Any) -> tuple[Node, ...]:
    """Return the steps whose outputs `after` holds.

    Raises:
        PipelineDefinitionError: It holds something else.
    """
    given = [after] if isinstance(after, Handle) or not isinstance(after, Iterable) else after
    flat = [each for item in given for each in (item if isinstance(item, tuple) else (item,))]
    if not all(isinstance(each, Handle) for each in flat):
        raise PipelineDefinitionError(
            "after= takes other steps' outputs", hint="train(rows, after=[checked])"
        )
    return tuple(dict.fromkeys(each.node for each in flat))


def kept(value: Any, name: str) -> Any:
    """Return a parameter as it is recorded: a copy, so that a later change to the value is none to it.

    Args:
        value: The parameter's.
        name: What errors call it.

    Raises:
        InvalidValueError: It cannot be recorded.
    """
    try:
        return loads(dumps(value, path=name))
    except InvalidValueError as error:
        hint = "parameters are numbers, text, lists and dicts of such; let a step make anything else"
        raise InvalidValueError(error.message, hint=hint) from None


def _takeable(handle: Handle) -> Handle:
    if not handle.name:
        raise PipelineDefinitionError(
            f"step {handle.node.name!r} has no output that could be passed on",
            hint=f"to wait for it, say after={handle.node.name}(...)",
        )
    return handle


def _holds_handle(value: Any) -> bool:
    seen: set[int] = set()
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, Handle):
            return True
        if isinstance(item, (list, tuple, set, frozenset, dict)) and id(item) not in seen:
            seen.add(id(item))
            todo.extend(item)
            if isinstance(item, dict):
                todo.extend(item.values())
    return False
