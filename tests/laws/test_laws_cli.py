"""The verbs `polyglance law ...`: output, files, errors, imports."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from synthetic_runs import grid, product_runs

from polyglance.cli import main
from polyglance.laws import Law


@pytest.fixture
def run(capsys):
    """Return a function from a verb with its arguments to exit code, standard output and standard error."""

    def call(*arguments):
        code = 0
        try:
            main(["law", *map(str, arguments)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, stdout=captured.out, stderr=captured.err)

    return call


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("laws") / "runs.csv"
    lines = ["params,samples,t0,loss,split"]
    for seed, (split, factor) in enumerate((("UC", 1.0), ("SC", 0.6))):
        runs = product_runs(*grid([4e8, 1e9, 4e9, 1e10], [5e5, 2e6, 1e7], [3.0, 6.0, 10.0]), seed=seed)
        lines += [f"{p},{s},{t},{factor * y},{split}" for p, s, t, y in zip(*runs.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


COLUMNS = "P=params,S=samples,T=t0,y=loss"


def test_the_command_of_the_guide_works_as_written(run, table, tmp_path):
    result = run(
        *("fit", table, "--form", "product", "--columns", COLUMNS, "--group", "split", "--objective", "log-huber"),
        *("--delta", "1e-3", "--bootstrap", "1000", "--out", tmp_path / "law.json", "--plot", tmp_path / "law.svg"),
        "--json",
    )
    assert result.code == 0, result.stderr
    content = json.loads(result.stdout)
    assert list(content["fits"]) == ["UC", "SC"]
    uc = content["fits"]["UC"]
    assert list(uc["parameters"]) == ["b0", "b_P", "b_S", "b_T", "eps"]
    assert uc["parameters"]["b_T"] == pytest.approx(0.4, abs=0.1)
    assert uc["intervals"]["b_T"][0] < uc["parameters"]["b_T"] < uc["intervals"]["b_T"][1]
    assert all({"code", "severity", "message"} == set(warning) for warning in uc["warnings"])
    assert 0 < uc["objective"] < 1
    law = Law.load(tmp_path / "law.json")
    assert law["UC"].objective == uc["objective"]
    assert len(law["UC"].draws) == 1000
    svg = (tmp_path / "law.svg").read_text()
    assert svg.rstrip().endswith("</svg>")
    assert "95 % of the mean curve" in svg


def test_a_law_without_groups_has_its_fields_at_the_top(run, table):
    result = run("fit", table, "--form", "compute", "--columns", "C=samples,y=loss", "--bootstrap", 20, "--json")
    content = json.loads(result.stdout)
    assert list(content["parameters"]) == ["a0", "a1", "eps"]
    assert content["objective"] == content["fits"]["all"]["objective"]
    assert content["warnings"][0]["code"]


def test_predict_plan_and_compare_print_text_and_json(run, table, tmp_path):
    law = tmp_path / "law.json"
    options = ("--columns", COLUMNS, "--group", "split", "--objective", "log-lsq")
    run("fit", table, *options, "--bootstrap", 50, "--out", law)
    at = ("--at", "P=1e9,S=1e8,T=6")
    assert "1.00 decades" in run("predict", law, *at).stdout
    machine = json.loads(run("predict", law, *at, "--json").stdout)
    assert {"code", "severity", "message"} == set(machine["UC"]["warnings"][0])
    assert machine["UC"]["low"][0] < machine["UC"]["mean"][0] < machine["UC"]["high"][0]
    assert "3.23" in run("predict", "paper-v1-compute", "--at", "C=1e9").stdout
    models = tmp_path / "models.csv"
    models.write_text("name,P,P_t,F_gmac,T\nsmall,4e8,3e8,50,10\nlarge,4e9,1e9,500,6\n")
    question = ("plan", law, "--group", "UC", "--target", 2.0, "--candidates", models, "--max-samples", 1e9)
    assert "cheapest: " in run(*question).stdout
    assert json.loads(run(*question, "--json").stdout)["options"][0]["needed"]["value"] > 0
    assert "cannot be reached" in run("plan", law, "--group", "UC", "--target", 0.1, "--candidates", models).stdout
    spend = ("plan", law, "--group", "UC", "--max-gmac", 1e9, "--candidates", models)
    assert "best: " in run(*spend).stdout
    assert json.loads(run(*spend, "--json").stdout)["options"][0]["loss"]["value"] > 0
    assert "--at T=..." in run(*spend[:-2], "--tokens-per-sample", 64).stderr
    text = run("compare", table, *options).stdout
    assert "product(P, S, T) without offset" in text
    assert "last value" in text


def test_make_and_list(run, tmp_path):
    constants = "E=1.69,A=406.4,B=410.7,alpha=0.34,beta=0.28"
    law = tmp_path / "law.json"
    assert "406.4" in run("make", "--form", "additive", "--set", constants, "--out", law).stdout
    for source in (law, "chinchilla"):
        assert "1.9366" in run("predict", source, "--at", "N=7e10,D=1.4e12").stdout
        assert "best size: N 2.996e+09, D 1.669e+11" in run("plan", source, "--max-gmac", 1e12).stdout
    assert "arXiv 2203.15556" in run("list").stdout
    assert "410.7" in run("list", "chinchilla").stdout
    assert json.loads(run("list", "--json").stdout)[0]["name"] == "paper-v1-compute"
    assert json.loads(run("list", "chinchilla", "--json").stdout)["parameters"]["A"] == pytest.approx(406.4)
    assert "--set is given 2 times" in run("make", "--set", "E=1", "--set", "A=2").stderr
    assert "did you mean 'chinchilla'" in run("list", "chinchila").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "none.csv"), "none.csv: no such file"),
        (("fit", "TABLE", "--columns", "P"), "--columns P: 'P' is not of the form A=B"),
        (("fit", "TABLE", "--columns", "P=prams"), "did you mean 'params'"),
        (
            ("fit", "TABLE", "--columns", COLUMNS, "--bounds", "b_T=1"),
            "--bounds b_T=1: b_T=1: expected a lowest and",
        ),
        (("predict", "none.json", "--at", "P=1"), "none.json: no such file"),
        (("fit", "TABLE", "--columns", COLUMNS, "--size", "params"), "--size has no effect without --frontier"),
        (("plan", "chinchilla"), "or a budget to spend: --max-gmac"),
        (("plan", "chinchilla", "--max-gmac", "1e12", "--gpu", "H200"), "--gpu has no effect without model cards"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(run, table, arguments, message):
    result = run(*(table if argument == "TABLE" else argument for argument in arguments))
    assert result.code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_nothing_heavy_is_loaded():
    heavy = {"torch", "transformers", "matplotlib", "pyarrow", "pandas", "tyro", "rich"}
    code = f"import sys, polyglance.laws; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_messages_name_options_as_they_are_typed(run, table, tmp_path):
    """What a config, a fit or a plan refuses is named as an option here, and as a field from Python."""
    fit = ["fit", table, "--columns", "P=params,S=samples,y=loss", "--group", "split", "--bootstrap", "20"]
    models = tmp_path / "models.csv"
    models.write_text("name,N,P_t,F_gmac\na,1e9,1e9,1\n")
    target = ["plan", "chinchilla", "--target", "2.2"]
    for arguments, expected in (
        ([*fit, "--roles", "X=tokens"], "--roles: 'X' is not a predictor"),
        ([*fit, "--transform", "error"], "give --ceiling, such as 100 for percent"),
        ([*fit, "--where", "loss>1e9"], "--where: none of the 72 rows"),
        ([*fit, "--bounds", "b_P=1:0"], "--bounds: b_P from 1 to 0 is empty; expected the smaller number first"),
        ([*fit, "--tie", "b_P=b_X"], "--tie: "),
        ([*fit, "--transform", "error", "--ceiling", "1"], "(repair them, or leave them out: --drop-bad-rows)"),
        (
            [*target, "--candidates", models, "--max-hours", "5"],
            "--max-hours cannot be checked ('a'): it needs --gmac-",
        ),
        (
            [*target, "--at", "N=1e9", "--max-samples", "5"],
            "checked (no candidates are given): it needs --tokens-per-sample",
        ),
        (
            [*target, "--candidates", models, "--cheapest-by", "money"],
            "--cheapest-by money cannot be computed ('a'): it needs --price",
        ),
        (["plan", "chinchilla", "--target", "2.2"], "give it with the candidate or as --at N=..."),
        (["plan", "chinchilla", "--target", "2.2", "--roles", "D=none"], "give --solve-for, or --roles NAME=samples"),
    ):
        result = run(*arguments)
        assert result.code == 2
        assert expected in result.stderr, arguments
