"""Expressions over the columns of a table: `C / (6 * N)`, `Training == 1 and loss < 5`.

    numbers       1e9, 6.9B; + - * / ** (or ^), log (natural), log10, log2, exp, sqrt, abs, min, max
    conditions    == != < <= > >=, chains such as 1e8 <= N < 1e9; and, or, not; true, false
    columns       N, config.lr.value; any other name in double quotes or backquotes: "D (tokens, total)"
    texts         in single quotes: 'finished'; a text is compared with == and !=

Nothing else is allowed: no attributes, no indices, no other functions. If a condition needs a cell that is empty or
holds no number, it is undecided in that row, unless the rest of the condition decides (`and`, `or`). Shapes: n rows.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyglance.languages import did_you_mean
from polyglance.laws.arrays import Mask
from polyglance.laws.tables.numerals import UNITS
from polyglance.laws.tables.table import Table

__all__ = ["FUNCTIONS", "Expression", "parse_expression"]

Kind = Literal["number", "text", "condition", "column"]
_MOST_NESTED = 50
"""Deepest nesting of an expression."""
_MOST_TOKENS = 400
"""Longest expression, in numbers, names, texts and operators."""
FUNCTIONS: Mapping[str, tuple[Callable[..., Any], int | None]] = {
    "log": (np.log, 1),
    "log10": (np.log10, 1),
    "log2": (np.log2, 1),
    "exp": (np.exp, 1),
    "sqrt": (np.sqrt, 1),
    "abs": (np.abs, 1),
    "min": (lambda *values: np.minimum.reduce(np.broadcast_arrays(*values)), None),
    "max": (lambda *values: np.maximum.reduce(np.broadcast_arrays(*values)), None),
}
"""Name -> function and its number of arguments; None: two or more."""
_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "**": np.power,
    "^": np.power,
}
_COMPARISONS: Mapping[str, Callable[..., Any]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_TRUTHS: Mapping[str, bool] = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
"""Text of a cell, in lower case -> truth."""
_HINTS: Mapping[str, str] = {
    "=": "a comparison is written ==",
    "&": "write `and`",
    "|": "write `or`",
    "!": "write `not`, or !=",
    "%": "there is no such operator",
    "[": "there is no index; a column is written by its name",
}
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?) (?P<unit>[kKmMbBgGtT](?![\w.]))?
    | (?P<name>[^\W\d][\w.]*)
    | (?P<quote>["`'])(?P<quoted>(?:(?!(?P=quote)).|(?P=quote){2})*)(?P=quote)
    | (?P<operator>\*\*|==|!=|<=|>=|[-+*/^<>(),])
    | (?P<end>$) )""",
    re.VERBOSE,
)


class _Token(NamedTuple):
    kind: Literal["number", "name", "column", "text", "operator", "end"]
    text: str
    position: int


@dataclass(frozen=True, kw_only=True)
class _Value:
    """Value of a part of an expression, in every row or once for all."""

    kind: Kind
    values: NDArray[Any]
    """(n,), or () for a constant."""
    problems: Mapping[int, str] = field(default_factory=dict)
    """Row -> why the value is not known there."""
    name: str = ""
    """Column, of the kind `column`: it becomes a number, a text or a condition as its context requires."""


_Node = Callable[[Table], _Value]
"""A parsed part of an expression, evaluated on a table."""


@dataclass(frozen=True)
class Expression:
    """A parsed expression."""

    text: str
    columns: tuple[str, ...]
    """Columns that it names, in order."""
    node: _Node

    def compute_column(self, table: Table) -> tuple[Sequence[Any] | NDArray[Any], dict[int, str]]:
        """Return the values (n,), and row -> why its value is missing.

        Raises:
            ValueError: a column that the table does not have, or a text where a number belongs; one line.
        """
        value = self._evaluate(table)
        if value.kind == "column":
            _, problems = table.numbers(value.name)
            return table.column(value.name), problems
        values = np.broadcast_to(value.values, len(table))
        problems = dict(value.problems)
        if value.kind == "condition":
            return ["" if row in problems else str(bool(one)) for row, one in enumerate(values)], problems
        if value.kind == "text":
            return values.tolist(), problems
        for row in np.flatnonzero(~np.isfinite(values)).tolist():
            problems.setdefault(row, f"has no finite value{self._describe_inputs(table, row)}")
        return np.where(np.isfinite(values), values, np.nan), problems

    def choose_rows(self, table: Table) -> tuple[Mask, dict[int, str]]:
        """Return where the condition holds (n,), and row -> why it cannot be decided.

        Raises:
            ValueError: as `compute_column`, or the expression is not a condition.
        """
        value = self._evaluate(table)
        if value.kind not in ("condition", "column"):
            raise ValueError(f"{self.text!r} is a {value.kind}, not a condition; compare it with something")
        value = _as_condition(table, value)
        return np.array(np.broadcast_to(value.values, len(table))), dict(value.problems)

    def _evaluate(self, table: Table) -> _Value:
        try:
            with np.errstate(all="ignore"):  # what is not finite is found in the result
                return self.node(table)
        except _EvaluationError as error:
            raise ValueError(f"{self.text!r}: character {error.position + 1}: {error}") from None

    def _describe_inputs(self, table: Table, row: int) -> str:
        inputs = [f"{name} is {table.column(name)[row]}" for name in self.columns]
        return f" where {', '.join(inputs)}" if inputs else ""


class _EvaluationError(ValueError):
    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


def parse_expression(text: str) -> Expression:
    """Parse an expression.

    Raises:
        ValueError: not a valid expression; one line with the position.
    """
    parser = _Parser(text)
    node = parser.parse()
    return Expression(" ".join(text.split()), tuple(dict.fromkeys(parser.columns)), node)


def _split_tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            found = text[start]
            if found in "\"'`":
                raise _EvaluationError(f"the quotation mark {found} is not closed", start)
            hint = f"; {_HINTS[found]}" if found in _HINTS else ""
            raise _EvaluationError(f"unexpected {found!r}{hint}", start)
        position = match.end()
        start = position - len(match[0].lstrip())
        if match["number"] is not None:
            number = float(match["number"]) * UNITS[(match["unit"] or "").lower()]
            tokens.append(_Token("number", repr(number), start))
        elif match["quote"] is not None:
            quoted = match["quoted"].replace(match["quote"] * 2, match["quote"])
            tokens.append(_Token("text" if match["quote"] == "'" else "column", quoted, start))
        elif match["name"] is not None:
            tokens.append(_Token("name", match["name"], start))
        else:
            tokens.append(_Token("end" if match["operator"] is None else "operator", match["operator"] or "", start))
    return tokens


class _Parser:
    """Recursive descent, one method for each level of precedence."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[_Token] = []
        self._next = 0
        self._depth = 0
        self.columns: list[str] = []

    def parse(self) -> _Node:
        try:
            self._tokens = _split_tokens(self._text)
            if len(self._tokens) > _MOST_TOKENS:
                raise _EvaluationError(f"more than {_MOST_TOKENS} parts", self._tokens[_MOST_TOKENS].position)
            node = self._parse_or()
            if self._peek().kind != "end":
                self._fail("expected an operator or the end")
        except _EvaluationError as error:
            text = " ".join(self._text.split())
            raise ValueError(f"{text!r}: character {error.position + 1}: {error}") from None
        return node

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._peek()
        if token.kind != "end":
            self._next += 1
        return token

    def _take_operator(self, *operators: str) -> _Token | None:
        token = self._peek()
        return self._take() if token.kind == "operator" and token.text in operators else None

    def _take_word(self, word: str) -> _Token | None:
        token = self._peek()
        return self._take() if token.kind == "name" and token.text.lower() == word else None

    def _fail(self, message: str) -> None:
        token = self._peek()
        found = "the end" if token.kind == "end" else repr(token.text)
        raise _EvaluationError(f"{message}, found {found}", token.position)

    def _parse_or(self) -> _Node:
        self._depth += 1
        if self._depth > _MOST_NESTED:
            self._fail(f"nested more than {_MOST_NESTED} times")
        node = self._parse_and()
        while token := self._take_word("or"):
            node = _join(node, self._parse_and(), token, decides=True)
        self._depth -= 1
        return node

    def _parse_and(self) -> _Node:
        node = self._parse_not()
        while token := self._take_word("and"):
            node = _join(node, self._parse_not(), token, decides=False)
        return node

    def _parse_not(self) -> _Node:
        negations = []
        while token := self._take_word("not"):
            negations.append(token)
        node = self._parse_comparison()
        for token in negations:
            node = _negate(node, token)
        return node

    def _parse_comparison(self) -> _Node:
        left = self._parse_sum()
        node: _Node | None = None
        while token := self._take_operator(*_COMPARISONS):
            right = self._parse_sum()
            pair = _compare(left, right, token)
            node = pair if node is None else _join(node, pair, token, decides=False)
            left = right
        return node or left

    def _parse_sum(self) -> _Node:
        node = self._parse_product()
        while token := self._take_operator("+", "-"):
            node = _calculate(_ARITHMETIC[token.text], [node, self._parse_product()], token)
        return node

    def _parse_product(self) -> _Node:
        node = self._parse_signed(self._parse_power)
        while token := self._take_operator("*", "/"):
            node = _calculate(_ARITHMETIC[token.text], [node, self._parse_signed(self._parse_power)], token)
        return node

    def _parse_signed(self, parse_operand: Callable[[], _Node]) -> _Node:
        """Parse an operand with any number of signs before it."""
        signs = []
        while token := self._take_operator("+", "-"):
            signs.append(token)
        node = parse_operand()
        for token in reversed(signs):
            node = _calculate(np.negative if token.text == "-" else np.positive, [node], token)
        return node

    def _parse_power(self) -> _Node:
        """Parse `a ** b ** c` as `a ** (b ** c)`; a sign may stand before an exponent."""
        operands, operators = [self._parse_atom()], []
        while token := self._take_operator("**", "^"):
            operands.append(self._parse_signed(self._parse_atom))
            operators.append(token)
        node = operands.pop()
        while operators:
            node = _calculate(np.power, [operands.pop(), node], operators.pop())
        return node

    def _parse_atom(self) -> _Node:
        token = self._peek()
        if token.kind == "operator" and token.text == "(":
            self._take()
            node = self._parse_or()
            if not self._take_operator(")"):
                self._fail("expected `)`")
            return node
        if token.kind not in ("number", "name", "column", "text") or token.text.lower() in ("and", "or", "not"):
            self._fail("expected a number, a column or `(`")
        self._take()
        following = self._peek()
        if token.kind == "name" and following.kind == "operator" and following.text == "(":
            return self._parse_call(token)
        if token.kind == "number":
            return _constant("number", float(token.text))
        if token.kind == "text":
            return _constant("text", token.text)
        if token.kind == "name" and token.text.lower() in ("true", "false"):
            return _constant("condition", token.text.lower() == "true")
        self.columns.append(token.text)
        return _read_column(token)

    def _parse_call(self, name: _Token) -> _Node:
        if name.text not in FUNCTIONS:
            raise _EvaluationError(
                f"there is no function {name.text!r}; {did_you_mean(name.text, FUNCTIONS)}", name.position
            )
        function, count = FUNCTIONS[name.text]
        self._take()
        arguments = [self._parse_or()]
        while self._take_operator(","):
            arguments.append(self._parse_or())
        if not self._take_operator(")"):
            self._fail("expected `,` or `)`")
        is_wrong = len(arguments) < 2 if count is None else len(arguments) != count
        if is_wrong:
            wanted = "two arguments or more" if count is None else "one argument"
            raise _EvaluationError(f"{name.text} has {wanted}, found {len(arguments)}", name.position)
        return _calculate(function, arguments, name)


def _constant(kind: Kind, value: float | str | bool) -> _Node:
    constant = _Value(kind=kind, values=np.asarray(value))

    def evaluate(_: Table) -> _Value:
        return constant

    return evaluate


def _read_column(token: _Token) -> _Node:
    def evaluate(table: Table) -> _Value:
        if token.text not in table.columns:
            near = did_you_mean(token.text, table.columns)
            hint = "; names with other characters than letters, digits, _ and . are written in double quotes"
            other = "; a text is written between single quotes" if token.kind == "column" else hint
            raise _EvaluationError(f"no column {token.text!r}; {near}{other}", token.position)
        return _Value(kind="column", values=np.empty(0), name=token.text)

    return evaluate


def _calculate(function: Callable[..., Any], nodes: Sequence[_Node], token: _Token) -> _Node:
    def evaluate(table: Table) -> _Value:
        values = [_as_number(table, node(table), token) for node in nodes]
        result = np.asarray(function(*(value.values for value in values)), dtype=float)
        return _Value(kind="number", values=result, problems=_merge(values))

    return evaluate


def _compare(left: _Node, right: _Node, token: _Token) -> _Node:
    def evaluate(table: Table) -> _Value:
        sides = [left(table), right(table)]
        kinds = {side.kind for side in sides}
        if kinds == {"column"} and token.text in ("==", "!=") and not all(_is_numeric(table, s.name) for s in sides):
            kinds = {"text"}
        if "text" in kinds:
            if token.text not in ("==", "!=") or not kinds <= {"text", "column"}:
                raise _EvaluationError("a text is compared with == or !=, and with a text", token.position)
            values = [_as_text(table, side) for side in sides]
        elif "condition" in kinds:
            if token.text not in ("==", "!="):
                raise _EvaluationError("a condition is compared with == or !=", token.position)
            values = [_as_condition(table, side) for side in sides]
        else:
            values = [_as_number(table, side, token, truths=True) for side in sides]
        result = np.asarray(_COMPARISONS[token.text](values[0].values, values[1].values))
        problems = _merge(values)
        return _Value(kind="condition", values=_clear(result, problems, len(table)), problems=problems)

    return evaluate


def _join(left: _Node, right: _Node, token: _Token, *, decides: bool) -> _Node:
    """Join two conditions by `or` (a true one decides) or by `and` (a false one decides)."""

    def evaluate(table: Table) -> _Value:
        values = []
        for node in (left, right):
            value = node(table)
            if value.kind not in ("condition", "column"):
                raise _EvaluationError(f"`{token.text}` joins conditions, found a {value.kind}", token.position)
            values.append(_as_condition(table, value))
        first, second = (np.broadcast_to(value.values, len(table)) for value in values)
        result = first | second if decides else first & second
        problems = {}
        for row, problem in _merge(values).items():
            decided = any(
                row not in value.problems and bool(column[row]) == decides
                for value, column in zip(values, (first, second), strict=True)
            )
            if not decided:
                problems[row] = problem
        return _Value(kind="condition", values=_clear(result, problems, len(table)), problems=problems)

    return evaluate


def _negate(node: _Node, token: _Token) -> _Node:
    def evaluate(table: Table) -> _Value:
        value = node(table)
        if value.kind not in ("condition", "column"):
            raise _EvaluationError(f"`not` needs a condition, found a {value.kind}", token.position)
        value = _as_condition(table, value)
        result = _clear(~value.values, value.problems, len(table))
        return _Value(kind="condition", values=result, problems=value.problems)

    return evaluate


def _merge(values: Sequence[_Value]) -> dict[int, str]:
    return {row: problem for value in reversed(values) for row, problem in value.problems.items()}


def _clear(result: NDArray[Any], problems: Mapping[int, str], num_rows: int) -> Mask:
    """Return a condition that is false where it cannot be decided."""
    if not problems:
        return result
    cleared = np.array(np.broadcast_to(result, num_rows))
    cleared[list(problems)] = False
    return cleared


def _as_number(table: Table, value: _Value, token: _Token, *, truths: bool = False) -> _Value:
    """Return a number.

    Args:
        truths: cells that are true or false count as 1 and 0, in comparisons.
    """
    if value.kind == "column":
        values, problems = table.numbers(value.name)
        if truths and problems:
            values = values.copy()
            cells = table.column(value.name)
            for row in list(problems):
                truth = _TRUTHS.get(str(cells[row]).strip().lower())
                if truth is not None:
                    values[row] = truth
                    del problems[row]
        return _Value(kind="number", values=values, problems=_name_problems(value.name, problems))
    if value.kind != "number":
        raise _EvaluationError(f"{token.text!r} needs numbers, found a {value.kind}", token.position)
    return value


def _as_text(table: Table, value: _Value) -> _Value:
    if value.kind == "text":
        return value
    return _Value(kind="text", values=np.array(table.texts(value.name), dtype=object))


def _as_condition(table: Table, value: _Value) -> _Value:
    if value.kind == "condition":
        return value
    truths = [_TRUTHS.get(label.lower()) for label in table.texts(value.name)]
    problems = {
        row: f"is {table.column(value.name)[row]!r}, not true or false" for row, t in enumerate(truths) if t is None
    }
    return _Value(
        kind="condition", values=np.array([bool(t) for t in truths]), problems=_name_problems(value.name, problems)
    )


def _name_problems(name: str, problems: Mapping[int, str]) -> dict[int, str]:
    return {row: f"{name} {problem}" for row, problem in problems.items()}


def _is_numeric(table: Table, name: str) -> bool:
    """Tell whether every cell of a column is a number or empty."""
    _, problems = table.numbers(name)
    return all(not problem.endswith(", not a number") for problem in problems.values())
