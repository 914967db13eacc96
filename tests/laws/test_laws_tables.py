"""Tables of any content: unusable rows are named, and no table gives numbers that are not finite."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyglance.laws import FitConfig, Law, Table, fit_law, read_candidates
from polyglance.laws.fitting.objectives import OBJECTIVES

HEADER = "P,S,y\n"
GOOD = "".join(f"{p},{s},{3 * p**-0.1 * s**-0.2 + 1}\n" for p in (1e8, 1e9, 3e9) for s in (1e5, 1e6, 1e7))
TWO = {"P": "P", "S": "S"}


def table_with(tmp_path, text, name="runs.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return Table.read(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1e9,1e6,", r"row 10: y is empty"),
        ("1e9,1e6,nan", r"row 10: y is not a number"),
        ("1e9,1e6,inf", r"row 10: y is infinite"),
        ("1e9,1e6,0", r"row 10: y is 0, must be positive"),
        ("-5,1e6,2", r"row 10: P is -5, must be positive"),
        ("1e9,lots,2", r"row 10: S is 'lots', not a number"),
        ("1e9,1_0,2", r"row 10: S is '1_0', not a number"),
        ("1e9,1e6,1e-200", r"row 10: y is 1e-200, beyond"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, row, message):
    table = table_with(tmp_path, HEADER + GOOD + row + "\n")
    with pytest.raises(ValueError, match=message) as caught:
        fit_law(FitConfig(columns=TWO, bootstrap=0), table)
    assert "\n" not in str(caught.value)
    law = fit_law(FitConfig(columns=TWO, bootstrap=0, drop_bad_rows=True), table)
    assert law.only.num_rows == 9
    assert list(law.data["dropped"]) == ["10"]
    assert [warning.code for warning in law.warnings] == ["rows-dropped"]
    assert "row 10" in law.warnings[0].message


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "a.csv", "empty"),
        (HEADER, "a.csv", "no rows"),
        ("P,P,y\n1,2,3\n", "a.csv", "the column 'P' occurs twice"),
        ("P,S,y\n1,2\n", "a.csv", "a.csv:2: wrong number of cells .2 cells, the header has 3"),
        ('{"P": 1}\nnonsense\n', "a.jsonl", "a.jsonl:2: broken JSON"),
        ("[1, 2]\n", "a.jsonl", "a.jsonl:1: not a JSON object"),
        ("P,params,loss\n1,2,3\n", "a.csv", "no column 'S'"),
        ("x", "a.xlsx", "unknown kind of table"),
        ("not parquet", "a.parquet", "not a Parquet file"),
    ],
)
def test_broken_tables_are_refused_in_one_line(tmp_path, text, name, message):
    with pytest.raises(ValueError, match=message) as caught:
        fit_law(FitConfig(columns=TWO, bootstrap=0), table_with(tmp_path, text, name))
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_column_is_named(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        Table.read(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="no column 'pramas'; did you mean 'params'"):
        Table.from_columns({"params": [1.0], "S": [1.0], "y": [1.0]}).column("pramas")


def test_csv_jsonl_and_parquet_give_the_same_law(tmp_path):
    import pyarrow
    import pyarrow.parquet

    from_csv = table_with(tmp_path, HEADER + GOOD)
    rows = [dict(zip("PSy", map(float, line.split(",")), strict=True)) for line in GOOD.splitlines()]
    from_jsonl = table_with(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "runs.jsonl")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "runs.parquet")
    tables = (from_csv, from_jsonl, Table.read(tmp_path / "runs.parquet"))
    first, *others = (fit_law(FitConfig(columns=TWO, bootstrap=50), table).only for table in tables)
    for other in others:
        assert other.parameters == first.parameters
        assert other.intervals == first.intervals


def test_too_few_rows_and_constant_columns():
    columns = {"P": [1e8, 1e9, 1e10], "S": [1e5, 1e7, 1e6], "y": [3.0, 2.0, 1.5]}
    with pytest.raises(ValueError, match=r"3 rows cannot determine 4 parameters \(b0, b_P, b_S, eps\)"):
        fit_law(FitConfig(columns=TWO, bootstrap=0), Table.from_columns(columns))
    with pytest.raises(ValueError, match="is the same in the only row"):
        fit_law(FitConfig(columns=TWO, bootstrap=0), Table.from_columns({"P": [1e8], "S": [1e5], "y": [3.0]}))
    p = np.geomspace(1e8, 1e10, 12)
    constant = Table.from_columns({"P": p, "S": np.full(12, 1e6), "y": 40 * p**-0.1 + 1})
    law = fit_law(FitConfig(columns=TWO, bootstrap=50), constant)
    assert law.only.unidentified[:1] == ("b_S",)
    assert "constant-predictor" in {warning.code for warning in law.only.warnings}
    assert law.summary()["parameters"]["b_S"] is None
    assert law.only.parameters["b_P"] == pytest.approx(-0.1, abs=1e-3)
    with pytest.raises(ValueError, match="the same in all 12 rows"):
        fit_law(FitConfig(form="compute", columns={"C": "S"}, bootstrap=0), constant)


NUMBERS = st.one_of(st.sampled_from([1.0, 2.0, 1e3, 1e9, 1e-140, 1e140]), st.floats(min_value=1e-6, max_value=1e12))
CELLS = st.one_of(
    NUMBERS,
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(["", "nan", "text", "1e9", " 3 ", None, True, 0, -1, 1e308, 1e-308, "∞"]),
)
FORMS = {"product": ("P", "S"), "compute": ("C",), "additive": ("N", "D")}


@settings(max_examples=50)
@given(data=st.data())
def test_any_table_gives_a_law_of_finite_numbers_or_an_error_of_one_line(data):
    form = data.draw(st.sampled_from(sorted(FORMS)))
    cells = data.draw(st.sampled_from([NUMBERS, CELLS]))
    num = data.draw(st.integers(min_value=1, max_value=14))
    columns = {name: data.draw(st.lists(cells, min_size=num, max_size=num)) for name in (*FORMS[form], "y")}
    config = FitConfig(
        form=form,
        columns={n: n for n in FORMS[form]},
        objective=data.draw(st.sampled_from(OBJECTIVES)),
        offset=data.draw(st.booleans()),
        method=data.draw(st.sampled_from(["pairs", "wild"])),
        bootstrap=20,
        drop_bad_rows=True,
    )
    try:
        law = fit_law(config, Table.from_columns(columns))
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    f = law.only
    numbers = [*f.parameters.values(), f.objective, f.r2_log, f.r2_raw, *f.residuals, *f.draws.ravel()]
    numbers += [end for ends in f.intervals.values() for end in ends]
    assert np.isfinite(numbers).all()
    prediction = f.predict({name: f.ranges[name][1] for name in f.form.predictors})
    assert all(np.isfinite(band).all() for band in vars(prediction).values() if band is not None)
    json.dumps(law.to_dict(), allow_nan=False)


def test_a_file_that_is_not_a_law_is_refused(tmp_path):
    for name, text, message in (
        ("a.json", "{", "not valid JSON"),
        ("b.json", "[]", "not a law file"),
        ("c.json", '{"format": "polyglance.law/1"}', "damaged law file"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            Law.load(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("semicolon.csv", {"N": "N", "D": "D", "y": "loss"}),
        ("suffixes.csv", {"N": "N", "D": "D", "y": "loss"}),
        ("comment.csv", {"N": "N", "D": "D", "y": "loss"}),
        ("records.json", {"N": "N", "D": "D", "y": "loss"}),
        ("comma-in-name.csv", {"N": "N", "D": "D (tokens, total)", "y": "loss=final"}),
    ],
)
def test_a_table_in_another_form_gives_the_same_law(name, columns):
    config = FitConfig(form="additive", columns=columns, bootstrap=0)
    law = fit_law(config, Table.read(Path(__file__).parent / "cases" / name)).only
    expected = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}
    assert law.parameters == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["6.9B", "13M", "1.5 k", "2T", "1e3k"], [6.9e9, 13e6, 1500, 2e12, 1e6]),
        (["1e9 tokens", "6.9B params", "2 M samples", "3,5 B Tokens"], [1e9, 6.9e9, 2e6, 3.5e9]),
        (["5 %", "12.5%"], [0.05, 0.125]),
        (["-1,234", "1,234,567.5", "12"], [-1234, 1234567.5, 12]),
        (["3,14", "1.234,5", "1,234"], [3.14, 1234.5, 1.234]),
        (["1 234 567", "1'234"], [1234567, 1234]),
        (["3,704", "2,851"], [math.nan] * 2),  # 3704 or 3.704
        (["1,5", "1,234,567"], [math.nan] * 2),
        (["3,14", "1.234", "2,851", "7"], [3.14, math.nan, 2.851, 7]),
        (["1,234,567", "3,704", "2 B"], [1234567, 3704, 2e9]),
        (["1.234.567", "1.234", "12"], [1234567, 1234, 12]),  # the first cell shows what dots divide
        (["1.234.567", "1.5"], [math.nan, 1.5]),
        (["1_000", "12\u2009345", "1\u2019234"], [1000, 12345, 1234]),
        (["1,5E+08", "2,25e-3"], [1.5e8, 2.25e-3]),
        (
            ["2.5×10^9", "2.5 \\times 10^{9}", "$3\\cdot10^9$", "10⁻³", "4*10**2", "1,5·10⁸"],
            [*[2.5e9] * 2, 3e9, 1e-3, 400, 1.5e8],
        ),
        (["100 million", "1.5bn", "2 Mio", "3 trillion tokens"], [1e8, 1.5e9, 2e6, 3e12]),
        (
            ["3.1 ± 0.2", "3.1 +/- .2", "3.1+-0.2", "3.104(12)", "3.1 (0.2)", "$3.1 \\pm 0.2$"],
            [3.1, math.nan, 3.1, 3.104, 3.1, 3.1],
        ),
        (["**3.1**", "__3.1__", "\\textbf{3.1}", "$\\mathbf{3.1}$", "\u22123"], [*[3.1] * 4, -3]),
        (["70M", "410", "1B", "2.8"], [7e7, math.nan, 1e9, math.nan]),  # 410M, and 2.8B
        (["500", "1k", "10k", "0", "1M"], [500, 1000, 1e4, 0, 1e6]),
        (["41 %", "38", "52%"], [0.41, math.nan, 0.52]),
        (["41 %", "0.38", "120 %", "1.2"], [0.41, 0.38, 1.2, 1.2]),
        (["1,2,3", "B", "12 apples", "--3", "3.1*", "3.1 ± x", "3 (a)", "10^x", "_1_"], [math.nan] * 9),
    ],
)
def test_numbers_are_read_as_people_write_them_or_not_at_all(cells, numbers):
    values, problems = Table.from_columns({"x": cells}).numbers("x")
    assert values.tolist() == pytest.approx(numbers, nan_ok=True)
    assert len(problems) == sum(map(math.isnan, numbers))


@pytest.mark.parametrize(
    ("other", "number"),
    [("3,7046", 3.704), ("1.000.000", 3.704), ("1,000,000", 3704), ("7", math.nan), ("many, say 3,7046", math.nan)],
)
def test_other_columns_decide_what_a_comma_means(other, number):
    table = Table.from_columns({"x": ["3,704", "2,851"], "other": [other, other]})
    assert table.numbers("x")[0][0] == pytest.approx(number, nan_ok=True)


@pytest.mark.parametrize(("other", "number"), [("3,7046", math.nan), ("1.000.000", math.nan), ("3.7046", 125.0)])
def test_a_dot_is_not_taken_for_a_decimal_one_where_commas_are_decimal(other, number):
    values, problems = Table.from_columns({"x": ["125.000", "350.000"], "other": [other, other]}).numbers("x")
    assert values[0] == pytest.approx(number, nan_ok=True)
    assert all("can be read as two numbers" in problem for problem in problems.values())


@given(
    st.lists(st.floats(1e-3, 1e13), min_size=1, max_size=5),
    st.sampled_from(["de", "en", "times", "raised", "bold", "spread", "si"]),
)
def test_a_number_in_any_dress_is_the_same_or_refused(numbers, dress):
    def write(number: float) -> str:
        plain = f"{number:.6g}"
        mantissa, _, exponent = f"{number:.5e}".partition("e")
        raised = str(int(exponent)).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
        return {
            "de": f"{number:,.4f}".translate(str.maketrans(",.", ".,")),
            "en": f"{number:,.4f}",
            "times": f"{mantissa} × 10^{{{int(exponent)}}}",
            "raised": f"{mantissa}·10{raised}",
            "bold": f"**{plain}**",
            "spread": f"{plain} ± 0.1",
            "si": f"{number / 1e6:.13f} million",
        }[dress]

    cells = [write(number) for number in numbers]
    values, problems = Table.from_columns({"x": cells}).numbers("x")
    for index, (number, value) in enumerate(zip(numbers, values.tolist(), strict=True)):
        assert index in problems or value == pytest.approx(number, rel=1e-4, abs=1e-4), (cells, value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "name,params,F_gmac,memory_gb\n1B,1B,1.5,12.5\n3B,3 billion,4.5,40\n"),
        ("a.csv", "name;params;F_gmac;memory_gb\n1B;1.000.000.000;1,5;12,5\n3B;3,0E9;4,5;40\n"),
        (
            "a.csv",
            "| name | P | F_gmac | memory_gb |\n|---|---:|:--|---|\n"
            "| 1B | 1e9 | 1.5 | 12.5 |\n| 3B | **3B** | 4.5 | 40 |\n",
        ),
        (
            "a.json",
            '[{"name": "1B", "params": "1B", "F_gmac": "1.5", "memory_gb": 12.5},'
            ' {"name": "3B", "params": 3e9, "F_gmac": 4.5, "memory_gb": 40}]',
        ),
    ],
)
def test_candidates_are_read_as_tables_of_runs_are(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    small, large = read_candidates(tmp_path / name)
    assert [(one.name, one.P, one.F_gmac) for one in (small, large)] == [("1B", 1e9, 1.5), ("3B", 3e9, 4.5)]
    assert [one.memory_bytes for one in (small, large)] == [12.5e9, 40e9]


def test_a_candidate_in_two_readings_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("name;P;F_gmac\nsmall;125.000;1,5\nlarge;350.000;4,25\n")
    with pytest.raises(ValueError, match=r"row 1: P is '125\.000', which can be read as two numbers"):
        read_candidates(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "name,P,F_gmac,memory_gb\nsmall,1B,1.5,24G\n"),
        ("a.csv", "name,P,F_gmac\nsmall,1B,1.5k\n"),
        ("a.json", '{"name": "small", "P": "1B", "F_gmac": 1.5, "memory_gb": "24G"}'),
    ],
)
def test_a_unit_beside_the_one_of_the_column_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(
        ValueError, match=r"is '(24G|1\.5k)', and the name of the column has the unit: write the number"
    ):
        read_candidates(tmp_path / name)


def test_candidates_of_one_name_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("name,P,F_gmac\nsmall,1B,1.5\nsmall ,2B,3\n")
    with pytest.raises(ValueError, match="candidates 1 and 2 are both named 'small'"):
        read_candidates(tmp_path / "a.csv")


SUMMARIES = "name,N,loss\na,1e8,3.1\nb,2e8,2.9\n"


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        (SUMMARIES + "Mean,1.5e8,3.0\n", "3 (Mean)"),
        (SUMMARIES + "mean:,1.5e8,3.0\nstd,1,1\n", "3 (mean:), 4 (std)"),
        ("name,N,loss\ncount,2,2\na,1e8,3.1\nb,2e8,2.9\n", "1 (count)"),
        (SUMMARIES, ""),
        ("pooling,N,loss\nmax,1e8,3.1\nmean,2e8,2.9\n", ""),  # settings of all runs
        ("pooling,N,loss\nmean,1e8,3.1\ncls,2e8,2.9\nmean,3e8,2.8\n", ""),
    ],
)
def test_rows_that_may_summarise_the_others_are_noted(tmp_path, text, noted):
    (tmp_path / "t.csv").write_text(text)
    notes = [note for note in Table.read(tmp_path / "t.csv").notes if "summarise" in note]
    assert len(notes) == bool(noted)
    assert all(f": {noted}." in note for note in notes)


@pytest.mark.parametrize("columns", ["group", "group,kind"])
def test_a_number_in_two_spellings_is_one_group(tmp_path, columns):
    """Fitted alike, whatever the spelling; a note says so. Names with leading zeros, and long ones, are not numbers."""
    rows = [
        (n, d, 1.5 + 20 * n**-0.3 + 30 * d**-0.3, kind)
        for n in (1e6, 1e7, 1e8)
        for d in (1e8, 1e9, 1e10)
        for kind in "ab"
    ]
    laws = []
    for spellings in (["1"], ["1", "1.0", " 1", "1e0"]):
        path = tmp_path / f"{len(spellings)}.csv"
        lines = [f"{spellings[i % len(spellings)]},{n},{d},{y},{kind}" for i, (n, d, y, kind) in enumerate(rows)]
        path.write_text("\n".join(["group,N,D,y,kind", *lines]))
        config = FitConfig(
            form="product", columns={name: name for name in "NDy"}, group=tuple(columns.split(",")), bootstrap=0
        )
        laws.append(fit_law(config, Table.read(path)))
    one, several = laws
    assert {label: fit.parameters for label, fit in several.fits.items()} == {
        label: fit.parameters for label, fit in one.fits.items()
    }
    notes = [warning.message for warning in several.warnings if "one label" in warning.message]
    assert notes == ["group (column 'group'): cells of one number are one label: '1.0' is '1', '1e0' is '1'."]
    assert not [warning for warning in one.warnings if "one label" in warning.message]


def test_labels_that_are_no_numbers_stay_apart():
    ids = ["7", "007", "7.1", "12345678901234567890", "12345678901234567891", "v1", "v1.0", "1B", "1000M", "1.0 b", ""]
    labels = [*ids[:8], "1B", "1B", ""]
    assert Table({"id": ids}).labels("id") == labels


def test_blanks_around_labels_make_no_other_group(tmp_path):
    (tmp_path / "t.csv").write_text("task,N\nmath,1e8\nmath ,2e8\n")
    assert Table.read(tmp_path / "t.csv").labels("task") == ["math", "math"]
