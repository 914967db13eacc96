"""Computed columns and conditions: equal to Python's arithmetic, safe on any text, undecided at empty cells."""

import ast
import math
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyglance.laws import CompareConfig, FitConfig, PrepareConfig, Table, compare_laws, describe_table, fit_law
from polyglance.laws.predict import predict_with_law
from polyglance.laws.tables.expressions import FUNCTIONS, parse_expression
from polyglance.settings import UnusedSettingError

ROWS = {"N": [1e8, 3e8, 1e9], "D": [2e9, 5e9, 7e9], "config.lr": ["1e-3", "", "2e-3"], "a b": ["x", "y", ""]}
TABLE = Table.from_columns(ROWS)

ATOMS = st.one_of(st.sampled_from(["N", "D"]), st.integers(1, 9).map(str), st.just("0.5"))


def combine(inner):
    pair = st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
    loose = st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(lambda t: f"{t[0]} {t[1]} {t[2]}")
    power = inner.map(lambda one: f"({one}) ** 2")
    call = st.tuples(st.sampled_from(["log(1 + abs({}))", "min({}, 3)", "-{}", "sqrt(abs({}))"]), inner).map(
        lambda t: t[0].format(f"({t[1]})")
    )
    return st.one_of(pair, loose, power, call)


PYTHON = {"log": math.log, "sqrt": math.sqrt, "abs": abs, "min": min}


@settings(max_examples=150)
@given(st.recursive(ATOMS, combine, max_leaves=8))
def test_arithmetic_is_that_of_python(text):
    values, problems = parse_expression(text).compute_column(TABLE)
    values = np.broadcast_to(values, 3)
    for row in range(3):
        names = {"N": ROWS["N"][row], "D": ROWS["D"][row], **PYTHON}
        try:
            expected = eval(compile(ast.parse(text, mode="eval"), "", "eval"), {"__builtins__": {}}, names)
        except (ZeroDivisionError, OverflowError):
            expected = math.inf
        if math.isfinite(expected):
            assert values[row] == pytest.approx(expected, rel=1e-9, abs=1e-300)
        else:
            assert row in problems


COMPARE = {"<": operator.lt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}


@settings(max_examples=100)
@given(data=st.data())
def test_conditions_are_those_of_python(data):
    def draw(depth):
        if depth == 0 or data.draw(st.booleans()):
            name, sign = data.draw(st.sampled_from(["N", "D"])), data.draw(st.sampled_from(sorted(COMPARE)))
            return f"{name} {sign} {data.draw(st.sampled_from(['1e8', '3e8', '5e9', 'D']))}"
        word = data.draw(st.sampled_from(["and", "or"]))
        negated = "not " * data.draw(st.integers(0, 2))
        return f"{negated}({draw(depth - 1)} {word} {draw(depth - 1)})"

    text = draw(3)
    kept, undecided = parse_expression(text).choose_rows(TABLE)
    assert undecided == {}
    expected = [eval(text, {"__builtins__": {}}, {"N": n, "D": d}) for n, d in zip(ROWS["N"], ROWS["D"], strict=True)]
    assert kept.tolist() == expected


@settings(max_examples=300)
@given(st.text(st.sampled_from("NDx 1.e+-*/^()<>=!&'\"`,_[]{}%andornot\\\n"), max_size=30))
def test_any_text_is_an_expression_or_an_error_of_one_line(text):
    try:
        parse_expression(text).compute_column(TABLE)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert "character" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("N.__class__", r"character 1: no column 'N.__class__'"),
        ("(1).__class__", r"character 4: unexpected '.'"),
        ("__import__('os')", "there is no function '__import__'"),
        ("N[0]", r"character 2: unexpected '\['; there is no index"),
        ("lambda: 1", "character 7: unexpected ':'"),
        ("Training=1", "a comparison is written =="),
        ("N & D", "write `and`"),
        ("N +", r"character 4: expected a number, a column or `\(`, found the end"),
        ("N D", "character 3: expected an operator or the end, found 'D'"),
        ("(N", r"character 3: expected `\)`"),
        ("'N", "character 1: the quotation mark ' is not closed"),
        ("log(N, D)", "log has one argument, found 2"),
        ("min(N)", "min has two arguments or more, found 1"),
        ("N + 'x'", "needs numbers, found a text"),
        ("N < 'x'", "a text is compared with == or !="),
        ("(N < 1) + 1", "needs numbers, found a condition"),
        ("not (N + 1)", "`not` needs a condition, found a number"),
        ("M / 2", "no column 'M'; known: D, N"),
        ('"x" == 1', "a text is written between single quotes"),
        ("(" * 99 + "N" + ")" * 99, "nested more than 50 times"),
        ("N" + " + N" * 300, "more than 400 parts"),
        ("", "character 1: expected a number"),
    ],
)
def test_a_mistake_is_named_with_its_position(text, message):
    with pytest.raises(ValueError, match=message):
        parse_expression(text).compute_column(TABLE)


def test_a_condition_is_undecided_only_where_an_empty_cell_matters():
    kept, undecided = parse_expression("config.lr > 1.5e-3").choose_rows(TABLE)
    assert (kept.tolist(), sorted(undecided)) == ([False, False, True], [1])
    kept, undecided = parse_expression("N == 3e8 or config.lr > 1.5e-3").choose_rows(TABLE)
    assert (kept.tolist(), undecided) == ([False, True, True], {})
    kept, undecided = parse_expression("N != 0.3B and not config.lr > 1.5e-3").choose_rows(TABLE)
    assert (kept.tolist(), undecided) == ([True, False, False], {})
    assert parse_expression("`a b` != ''").choose_rows(TABLE)[0].tolist() == [True, True, False]
    assert parse_expression("1e8 < N <= 1B").choose_rows(TABLE)[0].tolist() == [False, True, True]


def test_a_column_of_truths_is_a_condition():
    table = Table.from_columns({"done": [True, "false", 1, "0", "yes"]})
    kept, undecided = parse_expression("not done").choose_rows(table)
    assert (kept.tolist(), undecided) == ([False, True, False, True, False], {4: "done is 'yes', not true or false"})
    assert parse_expression("done == 1").choose_rows(table)[0].tolist() == [True, False, True, False, False]
    assert parse_expression("-" * 390 + "1").compute_column(table)[0].tolist() == [1] * 5


def test_precedence():
    for text, value in {"-2 ** 2": -4, "2 ** 3 ** 2": 512, "2 ** -1": 0.5, "8 / 2 / 2": 2, "10 - 3 - 2": 5}.items():
        assert float(parse_expression(text).compute_column(TABLE)[0][0]) == value
    assert set(FUNCTIONS) == {"log", "log10", "log2", "exp", "sqrt", "abs", "min", "max"}


def runs():
    n, d = np.meshgrid(np.geomspace(1e8, 1e10, 4), np.geomspace(1e9, 1e11, 4))
    n, d = n.ravel(), d.ravel()
    loss = 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28
    return {"N": n.tolist(), "C": (6 * n * d).tolist(), "loss": loss.tolist(), "Training": [1] * 15 + [0]}


EXACT = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}
ADDITIVE = {"form": "additive", "columns": {"N": "N", "D": "D"}, "bootstrap": 0}


def test_derived_columns_and_filters_give_the_law_and_are_recorded():
    columns = runs() | {"loss": [*runs()["loss"][:-1], None]}
    config = FitConfig(**ADDITIVE, derive={"D": "C/(6*N)", "y": "exp(log(loss))"}, where="Training==1 and loss<9")
    law = fit_law(config, columns)
    assert law.only.parameters == pytest.approx(EXACT, rel=1e-4)
    assert law.only.rows.tolist() == list(range(15))
    assert law.config["derive"] == {"D": "C/(6*N)", "y": "exp(log(loss))"}
    assert law.config["where"] == "Training==1 and loss<9"
    assert "1 of 16 rows were left out" in {w.code: w.message for w in law.warnings}["rows-filtered"]
    again = predict_with_law(law, Table.from_columns({"N": [1e9], "C": [6e19]}))["all"].mean
    assert again == pytest.approx(law.only.predict({"N": 1e9, "D": 1e10}).mean)


def test_a_column_that_was_rescaled_is_rescaled_again_for_predictions():
    columns = runs()
    config = FitConfig(
        form="compute", columns={"C": "C"}, derive={"C": "C*1e12", "y": "loss"}, bootstrap=0, objective="log-lsq"
    )
    law = fit_law(config, columns)
    assert law.only.ranges["C"][0] == pytest.approx(6e29)
    assert predict_with_law(law, Table.from_columns({"C": [6e17]}))["all"].extrapolation[0] < 1e-9


def test_what_has_no_effect_or_cannot_be_computed_is_refused():
    with pytest.raises(UnusedSettingError, match="`derive` x has no effect"):
        fit_law(FitConfig(**ADDITIVE, derive={"x": "N", "D": "C/(6*N)", "y": "loss"}), runs())
    with pytest.raises(ValueError, match="`where`: none of the 16 rows"):
        fit_law(FitConfig(form="compute", columns={"C": "C", "y": "loss"}, where="N<0"), runs())
    with pytest.raises(ValueError, match=r"row 1: y \(log\(0 \* loss\)\) has no finite value where loss is 3"):
        fit_law(FitConfig(form="compute", derive={"y": "log(0 * loss)"}), runs())
    with pytest.raises(ValueError, match=r"where: 'N' is a number|where cannot be decided"):
        fit_law(FitConfig(form="compute", columns={"C": "C", "y": "loss"}, where="N"), runs())
    with pytest.raises(ValueError, match="rows cannot be used: row 16: where cannot be decided: loss is empty"):
        fit_law(
            FitConfig(form="compute", columns={"C": "C", "y": "loss"}, where="loss<9"),
            runs() | {"loss": [*runs()["loss"][:-1], None]},
        )


def test_wide_tables_are_melted_and_several_columns_group():
    columns = runs()
    wide = {
        "N": columns["N"],
        "C": columns["C"],
        "loss_en": columns["loss"],
        "loss_zh-Hant": [2 * loss for loss in columns["loss"]],
        "family": ["a, b", "c"] * 8,
    }
    config = FitConfig(
        form="compute", columns={"C": "C", "y": "loss"}, melt={"loss": "loss_{language}"},
        group=("language", "family"), bootstrap=0,
    )  # fmt: skip
    law = fit_law(config, wide)
    assert list(law.fits) == ["en, a, b", "zh-Hant, a, b", "en, c", "zh-Hant, c"]
    one = fit_law(FitConfig(form="compute", columns={"C": "C", "y": "loss"}, bootstrap=0, where="N>0"), columns).only
    by_language = fit_law(FitConfig(**{**vars(config), "group": "language"}), wide)
    assert by_language["en"].parameters == pytest.approx(one.parameters, rel=1e-9)
    assert by_language["zh-Hant"].parameters["a1"] == pytest.approx(one.parameters["a1"], rel=1e-6)
    with pytest.raises(ValueError, match="two combinations of a and b give the same label"):
        fit_law(
            FitConfig(form="compute", columns={"C": "C"}, group=("a", "b")),
            {"C": [1, 2], "y": [1, 2], "a": ["x", "x, y"], "b": ["y, z", "z"]},
        )
    tokens = Table.from_columns({"N": [1.0, 2.0], "1B": [3.0, 4.0], "2B": [5.0, 6.0]})
    described = describe_table(PrepareConfig(melt={"loss": "{D}"}), tokens)
    assert [(c.name, c.low, c.high) for c in described.columns] == [("N", 1, 2), ("D", 1e9, 2e9), ("loss", 3, 6)]
    for template, message in (("loss", "name with slots"), ("cider_{x}", "fits no column"), ("{N}B", "column 'N'")):
        with pytest.raises(ValueError, match=message):
            describe_table(PrepareConfig(melt={"loss": template}), tokens)


def test_a_comparison_uses_the_same_table():
    config = CompareConfig(form="additive", columns={"N": "N", "D": "D"}, derive={"D": "C/(6*N)", "y": "loss"})
    assert compare_laws(config, runs())["all"].candidates[0].r2_log > 0.999
