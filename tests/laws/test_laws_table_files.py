"""Tables in every dress: the same numbers, or a refusal of one line. Frames, records and Parquet of every type."""

import codecs
import datetime
import decimal
import gzip
import json
import random

import numpy as np
import pytest

from polyglance.laws import (
    FitConfig,
    MakeConfig,
    PrepareConfig,
    Table,
    describe_table,
    fit_law,
    make_law,
    predict_with_law,
)

HEADER = ("N", "D", "loss")
RUNS = [
    (n, d, round(1.69 + 406.4 / n**0.34 + 410.7 / d**0.28, 9))
    for n in (1e8, 3e8, 1e9, 3e9)
    for d in (1e9, 4e9, 1.6e10, 6.4e10)
]
EXACT = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}


def expected(order):
    return {name: [RUNS[row][i] for row in order] for i, name in enumerate(HEADER)}


class Writer:
    """A table with random choices of everything that writers differ in. `names` are those that the reader must give."""

    def __init__(self, seed):
        self.rng = rng = random.Random(seed)
        self.order = rng.sample(range(16), 16) if rng.random() < 0.5 else list(range(16))
        self.delimiter = rng.choice([",", ",", ";", "\t", "|"])
        self.suffix = ".tsv" if self.delimiter == "\t" and rng.random() < 0.5 else ".csv"
        self.names = list(HEADER)
        self.must_refuse = False

    def number(self, value, column):
        rng, kind = self.rng, self.style[column]
        if kind == "suffix" and value >= 1e6:
            unit, factor = rng.choice([("B", 1e9), ("M", 1e6), ("b", 1e9), ("G", 1e9)])
            return f"{value / factor!r}{rng.choice(['', ' '])}{unit}"
        if kind == "groups" and value >= 1e6:
            return f"{int(value):,}"
        if kind == "exponent":
            return f"{value:.12e}"
        if kind == "comma" and value < 1e6:
            return repr(value).replace(".", ",")
        return repr(int(value)) if value == int(value) and rng.random() < 0.5 else repr(value)

    def quote(self, cell):
        must = self.delimiter in cell or '"' in cell
        if self.delimiter == "\t":
            return cell
        if must or self.quotes == "all" or (self.quotes == "some" and self.rng.random() < 0.3):
            return '"' + cell.replace('"', '""') + '"'
        return cell

    def write(self, path):
        rng = self.rng
        self.style = {
            "N": rng.choice(["plain", "suffix", "groups", "exponent"]),
            "D": rng.choice(["plain", "suffix", "groups", "exponent"]),
            "loss": rng.choice(["plain", "exponent", "comma"]),
        }
        self.quotes = rng.choice(["none", "all", "some"])
        rows = [[self.number(RUNS[row][i], name) for i, name in enumerate(HEADER)] for row in self.order]
        header = list(HEADER)
        if rng.random() < 0.3:
            self.names[1] = header[1] = "D (tokens)" if self.delimiter == "\t" else "D (tokens, total)"
        if rng.random() < 0.3:
            header, rows = ["", *header], [[str(i), *row] for i, row in enumerate(rows)]
        elif rng.random() < 0.15:  # as R writes row names
            rows = [[rng.choice([f"run {i + 1}", f"run {i + 1}"]), *row] for i, row in enumerate(rows)]
        if rng.random() < 0.3:
            header, rows = [*header, "name"], [[*row, rng.choice(["a", "b c", ""])] for row in rows]
        if rng.random() < 0.2 and len(header) == len(rows[0]):
            header, rows = [*header, "", ""], [[*row, "", ""] for row in rows]
        lines = [[self.quote(cell) for cell in cells] for cells in (header, *rows)]
        if rng.random() < 0.15:
            units = ["(count)" if name in self.names else "" for name in header]
            lines.insert(1, units)
            self.must_refuse = True
        if rng.random() < 0.3:
            lines = [
                [cell if '"' in cell else rng.choice([cell, f" {cell}", f"{cell} "]) for cell in cells]
                for cells in lines
            ]
        text = [self.delimiter.join(line) for line in lines]
        if rng.random() < 0.2:
            text.insert(0, "Results of the spring" + self.delimiter * rng.choice([0, len(lines[0]) - 1]))
        if rng.random() < 0.2:
            text.insert(0, "# exported by a program, on a day")
        for _ in range(rng.choice([0, 0, 1, 3])):
            text.insert(rng.randrange(len(text) + 1), "")
        end = rng.choice(["\n", "\r\n"])
        content = end.join(text) + rng.choice(["", end])
        encoding = rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
        data = content.encode(encoding)
        if encoding == "utf-16-le":
            data = codecs.BOM_UTF16_LE + data
        if rng.random() < 0.2:
            data, self.suffix = gzip.compress(data), self.suffix + ".gz"
        path = path.with_name(path.name + self.suffix)
        path.write_bytes(data)
        return path


@pytest.mark.parametrize("part", range(4))
def test_a_thousand_tables_in_other_dress_are_the_same_or_refused(tmp_path, part):
    read = fitted = 0
    for seed in range(300 * part, 300 * part + 300):
        writer = Writer(seed)
        path = writer.write(tmp_path / "runs")
        try:
            table = Table.read(path)
            found = {name: table.numbers(column) for name, column in zip(HEADER, writer.names, strict=True)}
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert writer.must_refuse, f"seed {seed}: {error}\n{path.read_bytes()[:300]!r}"  # noqa: PT017
            continue
        assert not writer.must_refuse, f"seed {seed}"
        read += 1
        for name, values in expected(writer.order).items():
            numbers, problems = found[name]
            assert problems == {}, f"seed {seed}: {problems}"
            assert numbers == pytest.approx(values, rel=1e-11), f"seed {seed}: {name}"
        if seed % 20 == 0:
            columns = dict(zip(("N", "D", "y"), writer.names, strict=True))
            law = fit_law(FitConfig(form="additive", columns=columns, bootstrap=0, objective="log-lsq"), table)
            assert law.only.parameters == pytest.approx(EXACT, rel=1e-4)
            fitted += 1
    assert read > 200
    assert fitted > 5


def test_a_table_with_any_damage_is_the_same_or_refused_or_its_rows_are(tmp_path):
    """Delete, insert or change one character: no number changes but that of the character."""
    plain = "\n".join([",".join(HEADER), *(",".join(map(repr, run)) for run in RUNS)])
    path = tmp_path / "runs.csv"
    for seed in range(400):
        rng = random.Random(seed)
        at, sign = rng.randrange(len(plain)), rng.choice([*list(",;\"'\t\n#| "), "x", "\ud7ff", ""])
        path.write_text(plain[:at] + sign + plain[at + rng.choice([0, 1]) :], encoding="utf-8")
        try:
            table = Table.read(path)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017
            continue
        if not set(HEADER) <= set(table.columns):
            continue
        columns = [table.numbers(name) for name in HEADER]
        rows = [tuple(values[row] for values, _ in columns) for row in range(len(table))]
        kept = [row for row in rows if not np.isnan(row).any()]
        assert sum(row not in RUNS for row in kept) <= 2, f"seed {seed}: {plain[at - 5 : at]!r}, {sign!r}"


LAYOUTS = {
    "two header lines": (
        "model,,training,\nname,N,D,loss\na,1e8,1e9,3.7\nb,1e8,2e9,3.6\nc,1e8,3e9,3.5\n",
        "--header-rows 2",
    ),
    "units below": ("N,D,loss\n(B),(T),nats\n1,2,3\n1,2,3\n1,2,3\n", "--header-rows 2"),
    "no header": ("1e8,1e9,3.7\n1e8,2e9,3.6\n", "write the names of the columns above"),
    "decimal commas between commas": ("N,loss\n100,3,7\n200,3,5\n", "wrong number of cells"),
    "an encoding": ("N,Verlüst\n1,2\n", "--encoding"),
    "a sheet": ("x", "save the sheet as CSV"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_can_be_read_in_two_ways_is_refused_with_what_helps(tmp_path, name):
    text, message = LAYOUTS[name]
    path = tmp_path / ("runs.xlsx" if name == "a sheet" else "runs.csv")
    path.write_bytes(text.encode("cp1252"))
    with pytest.raises(ValueError, match=message):
        Table.read(path)
    if message == "--header-rows 2":
        table = Table.read(path, header_rows=2)
        assert len(table) == 3
        assert [name for name in table.columns if name.endswith(("loss", "nats"))] in (["training loss"], ["loss nats"])
    if message == "--encoding":
        assert list(Table.read(path, encoding="cp1252").columns) == ["N", "Verlüst"]


def test_options_without_effect_on_a_file_are_refused(tmp_path):
    (tmp_path / "a.json").write_text('[{"N": 1}]')
    with pytest.raises(ValueError, match="header_rows has no effect on JSON records"):
        Table.read(tmp_path / "a.json", header_rows=2)


COLUMNS = {"N": [1e8, 3e8, 1e9], "loss": [3.7, None, 3.1]}
JSON = {
    "columns": COLUMNS,
    "pandas": {name: {str(row): cell for row, cell in enumerate(cells)} for name, cells in COLUMNS.items()},
    "split": {"columns": ["N", "loss"], "index": [0, 1, 2], "data": list(zip(*COLUMNS.values(), strict=True))},
    "records": [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)],
    "table": {
        "schema": {"fields": [], "primaryKey": ["index"]},
        "data": [{"index": i, "N": n, "loss": loss} for i, (n, loss) in enumerate(zip(*COLUMNS.values(), strict=True))],
    },
    "index": {str(i): {"N": n, "loss": loss} for i, (n, loss) in enumerate(zip(*COLUMNS.values(), strict=True))},
    "wrapped": {"runs": [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]},
    "gaps": [{"N": 1e8, "loss": 3.7}, {"N": 3e8}, {"N": 1e9, "loss": 3.1}],
}


@pytest.mark.parametrize("form", JSON)
def test_json_of_every_form_gives_the_columns(tmp_path, form):
    (tmp_path / "a.json").write_text(json.dumps(JSON[form]))
    table = Table.read(tmp_path / "a.json")
    assert table.numbers("N")[0].tolist() == COLUMNS["N"]
    assert table.numbers("loss")[1] == {1: "is empty"}
    if isinstance(JSON[form], list):
        assert Table.from_data(JSON[form]).numbers("N")[0].tolist() == COLUMNS["N"]


def test_nested_records_are_columns_with_a_dot(tmp_path):
    records = [{"config": {"N": 1}, "summary": {"loss": 2, "x": {}}}, {"config": {"N": 3, "tag": "a"}, "config.M": 4}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for table in (Table.read(tmp_path / "a.jsonl"), Table.from_data(records)):
        assert list(table.columns) == ["config.N", "summary.loss", "summary.x", "config.tag", "config.M"]
    with pytest.raises(ValueError, match=r"'a\.b' occurs twice"):
        Table.from_data([{"a": {"b": 1}, "a.b": 2}])
    with pytest.raises(ValueError, match="record 1 is int"):
        Table.from_data([1])
    for data in (7, "runs.csv", {"a": 3}):
        with pytest.raises(ValueError, match="expected a"):
            Table.from_data(data)


def test_parquet_of_every_type(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = {
        "decimal": pa.array([decimal.Decimal("1.50"), decimal.Decimal("2.25")]),
        "dictionary": pa.array(["1.5", "2.25"]).dictionary_encode(),
        "half": pa.array(np.array([1.5, 2.25], dtype=np.float16)),
        "single": pa.array([1.5, 2.25], pa.float32()),
        "text": pa.array(["1.5", "2.25"], pa.large_string()),
        "bytes": pa.array([b"1.5", b"2.25"]),
    }
    others = {
        "list": pa.array([[1.0], [2.0]]),
        "time": pa.array([datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 2)]),
        "far": pa.array([2**60, 2**61], pa.timestamp("us")),
        "duration": pa.array([1, 2], pa.duration("s")),
        "truth": pa.array([True, False]),
        "map": pa.array([[("a", 1)], [("b", 2)]], pa.map_(pa.string(), pa.int64())),
        "binary": pa.array([b"\xff", b"\xfe"]),
    }
    nested = {"run": pa.array([{"N": 1, "x": {"y": 2}}, {"N": 3, "x": None}]), "gap": pa.array([1, None])}
    pq.write_table(pa.table(numbers | others | nested), tmp_path / "a.parquet")
    for table in (Table.read(tmp_path / "a.parquet"), Table.from_data(pa.table(numbers | others))):
        for name in numbers:
            assert table.numbers(name)[0].tolist() == [1.5, 2.25], name
        for name in others:
            problems = table.numbers(name)[1]
            assert set(problems) == {0, 1}, name
            assert all("not a number" in problem for problem in problems.values()), name
    table = Table.read(tmp_path / "a.parquet")
    assert table.numbers("run.N")[0].tolist() == [1, 3]
    assert table.numbers("run.x.y")[1] == {1: "is empty"}
    assert table.numbers("gap")[1] == {1: "is empty"}


def test_pandas_frames_keep_their_named_index():
    pandas = pytest.importorskip("pandas")
    runs = pandas.DataFrame(dict(zip(HEADER, zip(*RUNS, strict=True), strict=True))).assign(seed=0, tag="x")
    means = runs.groupby(["N", "D"])[["loss"]].mean()
    config = FitConfig(form="additive", columns={"N": "N", "D": "D", "y": "loss"}, bootstrap=0)
    assert fit_law(config, runs).only.parameters == pytest.approx(EXACT, rel=1e-4)
    assert fit_law(config, means).only.parameters == pytest.approx(EXACT, rel=1e-4)
    odd = pandas.DataFrame(
        {"a": pandas.array([1, None], "Int64"), "b": pandas.Categorical(["x", None]), 3: ["6.9B", 7]}
    )
    table = Table.from_data(odd)
    assert table.numbers("a")[1] == {1: "is empty"}
    assert table.labels("b") == ["x", ""]
    assert table.numbers("3")[0].tolist() == [6.9e9, 7]
    several = Table.from_data(runs.groupby("N").agg({"loss": ["mean", "std"]}))
    assert list(several.columns) == ["N", "loss.mean", "loss.std"]
    with pytest.raises(ValueError, match="'a' occurs twice"):
        Table.from_data(pandas.DataFrame([[1, 2]], columns=["a", "a"]))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".tab"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_cells_are_divided_by_what_the_file_holds_not_by_its_name(suffix, delimiter, tmp_path):
    path = tmp_path / f"runs{suffix}"
    path.write_text(
        "".join(delimiter.join(row) + "\n" for row in (HEADER, ("1e8", "1e9", "3.5"), ("3e8", "4e9", "3.1")))
    )
    table = Table.read(path)
    assert list(table.columns) == list(HEADER)
    assert table.numbers("D")[0].tolist() == [1e9, 4e9]
    unexpected = delimiter in ";|" or (delimiter == "," and suffix != ".csv")
    assert table.notes == ((f"Cells stand between {delimiter!r}.",) if unexpected else ())


def test_many_rows_are_read_at_once_as_one_by_one(tmp_path, monkeypatch):
    """Also where a row has quotes, is blank, is not decoded, or is of another width."""
    rng = np.random.default_rng(0)
    path = tmp_path / "runs.csv"
    odd = [
        '"a,b",1,2',
        "",
        ",,",
        " , , ",
        "x,1",
        "x,1,2,3",
        "x,1,2,,",
        "é,1,2",
        "\udcff,1,2",
        "#x,1,2",
        "x,1e400,nan",
        "x,1_0,+.5",
    ]
    outcomes = set()
    for trial in range(60):
        lines = [f"run{i},{rng.random()!r},{rng.integers(9)}" for i in range(90)]
        for _ in range(trial % 3):
            lines[rng.integers(60, 90)] = str(rng.choice(odd))
        end = ("\n", "\r\n")[trial % 2]
        path.write_bytes(
            end.join(["run,loss,seed", *lines, ""][: 92 - trial % 5 // 4]).encode("utf-8", "surrogateescape")
        )
        results = []
        for careful in (False, True):
            with monkeypatch.context() as patch:
                if careful:
                    patch.setattr("polyglance.laws.tables.table_files._read_plain_rows", lambda *_: None)
                    patch.setattr("polyglance.laws.tables.numerals._parse_plain", lambda _: None)
                try:
                    table = Table.read(path)
                    numbers = [(values.tolist(), problems) for values, problems in map(table.numbers, ("loss", "seed"))]
                    results.append(repr((table.columns, table.notes, numbers)))
                except ValueError as error:
                    results.append(str(error))
        assert results[0] == results[1]
        outcomes.add(results[0][:1])
    assert len(outcomes) == 2  # tables, and messages


def test_polars_frames():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"N": [1, 2], "loss": [3.5, None], "tag": ["a", None]})
    table = Table.from_data(frame)
    assert table.numbers("N")[0].tolist() == [1, 2]
    assert table.numbers("loss")[1] == {1: "is empty"}
    assert table.labels("tag") == ["a", ""]
    law = make_law(MakeConfig(form="compute", set={"a0": 2.0, "a1": -0.5, "eps": 0.0}, columns={"C": "N"}))
    predicted = predict_with_law(law, frame.with_columns(N=polars.col("N").cast(polars.Int32)))["all"]
    assert predicted.mean == pytest.approx([2.0, 2.0**0.5])
    with pytest.raises(ValueError, match=r"pass frame.collect\(\)"):
        Table.from_data(frame.lazy())


def test_exports_of_trackers_are_read_as_they_come(tmp_path):
    (tmp_path / "wandb.csv").write_text(
        '"Name","State","config.N.value","summary/loss"\n"a","finished","1e8","3.7"\n"b","crashed","3e8",""\n'
        '"c","finished","1e9","3.1"\n'
    )
    where = "State=='finished' and \"summary/loss\" < 5"
    table = Table.read(tmp_path / "wandb.csv")
    described = describe_table(PrepareConfig(where=where), table)
    assert [column.role for column in described.columns] == ["none", "none", "parameters", "none"]
    assert [column.num_missing for column in described.columns] == [0, 0, 0, 1]
    assert "2 of 3 rows are" in described.notes[-1]
    (tmp_path / "mlflow.csv").write_text(
        ",run_id,status,metrics.loss,params.N\n0,x,FINISHED,3.7,100000000\n1,y,FAILED,,300000000\n"
    )
    described = describe_table(PrepareConfig(derive={"y": "metrics.loss / 2"}), Table.read(tmp_path / "mlflow.csv"))
    assert described.columns[4].role == "parameters"
    assert described.columns[-1].high == 1.85
    (tmp_path / "r.csv").write_text('"N","D","loss"\n"1",1e8,1e9,3.7\n"2",1e8,4e9,3.3\n')
    table = Table.read(tmp_path / "r.csv")
    assert table.numbers("N")[0].tolist() == [1e8, 1e8]
    assert "name of the row" in table.notes[-1]


def test_rows_that_may_begin_with_numbers_of_their_own_are_refused(tmp_path):
    """R writes no name above the numbers of rows, and nothing for a missing value."""
    rows = [f"{number},{10**number},{2 * number}.5,\n" for number in range(1, 6)]
    path = tmp_path / "t.csv"
    path.write_text("params,loss,note\n" + "".join(rows))
    with pytest.raises(ValueError, match=r"begin with 1, 2, 3, .* write a name above them"):
        Table.read(path)
    path.write_text("run,params,loss\n" + "".join(rows))
    assert Table.read(path).columns["params"][:2] == ["10", "100"]
