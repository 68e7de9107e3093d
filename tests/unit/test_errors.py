"""The tree of errors: what its docstring draws, what each error says, how it travels."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from pathlib import Path

import pytest

from zen_mlmd import errors
from zen_mlmd.errors import StoreError, ZenMlmdError

ROOT = Path(__file__).parents[2]
CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, ZenMlmdError)
}
_LINE = re.compile(
    r" {4}(?P<indent>[ │]*)(?:[├└]── )?(?P<name>\w+)(?: \((?P<builtin>\w+)\))? *(?P<code>ZM\d{3})?"
)


def drawn() -> dict[str, tuple[str, str, str]]:
    """Parent, built-in parent and code of each class, as the module's docstring draws them."""
    assert errors.__doc__ is not None
    found: dict[str, tuple[str, str, str]] = {}
    above: dict[int, str] = {}
    for line in errors.__doc__.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        depth = 0 if match["name"] == "ZenMlmdError" else 1 + len(match["indent"]) // 5
        above[depth] = match["name"]
        parent = above[depth - 1] if depth else ""
        found[match["name"]] = (parent, match["builtin"] or "", match["code"] or "ZM000")
    return found


def made(kind: type[ZenMlmdError]) -> ZenMlmdError:
    return kind("it broke", hint="mend it")


every_class = pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)


def test_the_drawn_tree_is_the_classes() -> None:
    real = {}
    for name, kind in CLASSES.items():
        ours = [base.__name__ for base in kind.__bases__ if base.__name__ in CLASSES]
        others = [base.__name__ for base in kind.__bases__ if base.__name__ not in CLASSES]
        real[name] = ("".join(ours), "" if kind is ZenMlmdError else "".join(others), kind.code)
    assert len(real) > 30
    drawing = drawn()
    # ValueError is said of the class, not drawn, where the tree already has a reader's mind on requests.
    drawing["RejectedRequestError"] = (drawing["RejectedRequestError"][0], "ValueError", "ZM303")
    assert drawing == real


def test_each_code_means_one_class() -> None:
    codes = [kind.code for kind in CLASSES.values()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"ZM\d{3}", code) for code in codes)


@every_class
def test_a_code_lies_in_the_block_of_its_parent(kind: type[ZenMlmdError]) -> None:
    parent = next((base for base in kind.__bases__ if issubclass(base, ZenMlmdError)), ZenMlmdError)
    if parent is not ZenMlmdError:
        assert kind.code[:3] == parent.code[:3]
        assert kind.code > parent.code


@every_class
def test_a_class_says_what_it_means(kind: type[ZenMlmdError]) -> None:
    assert kind.__doc__
    assert kind.__doc__ != (kind.__bases__[0].__doc__ or "")


@every_class
def test_an_error_reads_as_code_message_and_hint(kind: type[ZenMlmdError]) -> None:
    error = made(kind)
    assert str(error) == f"[{kind.code}] it broke\n  hint: mend it"
    assert str(kind("it broke")) == f"[{kind.code}] it broke"
    assert (error.message, error.hint) == ("it broke", "mend it")


@every_class
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(kind: type[ZenMlmdError], protocol: int) -> None:
    error = made(kind)
    error.__dict__["noted"] = ["more"]
    for back in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error), copy.deepcopy(error)):
        assert type(back) is kind
        assert str(back) == str(error)
        assert back.__dict__ == error.__dict__
        assert back.args == error.args


def test_a_store_error_keeps_mlmds_code() -> None:
    error = StoreError("refused", hint="ask", mlmd_code=9)
    assert error.mlmd_code == 9
    assert pickle.loads(pickle.dumps(error)).mlmd_code == 9
    assert StoreError("refused").mlmd_code == 2
    assert errors.AlreadyExistsError("there").mlmd_code == 6
    assert errors.ContentionError("busy").mlmd_code == 10


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.UsageError, TypeError),
        (errors.InvalidValueError, ValueError),
        (errors.ConfigError, ValueError),
        (errors.FilterSyntaxError, ValueError),
        (errors.NotFoundError, LookupError),
        (errors.MissingExtraError, ImportError),
        (errors.RejectedRequestError, ValueError),
    ],
)
def test_some_are_also_what_python_calls_them(kind: type[ZenMlmdError], builtin: type[Exception]) -> None:
    with pytest.raises(builtin, match="it broke"):
        raise made(kind)


def test_every_place_that_raises_gives_a_hint() -> None:
    bare = []
    for path in sorted((ROOT / "zen_mlmd").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES:
                hints = [word.value for word in node.keywords if word.arg == "hint"]
                if not hints or (isinstance(hints[0], ast.Constant) and not hints[0].value):
                    bare.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert bare == []


def test_each_error_has_a_section_in_the_documentation() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (ZM\d{3}) (\w+)$", text, re.MULTILINE))
    assert sections == {kind.code: name for name, kind in CLASSES.items()}
    for body in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading, _, rest = body.partition("\n")
        assert "**What to do.**" in rest, heading
        assert len(rest.partition("**What to do.**")[0].strip()) > 20, heading
