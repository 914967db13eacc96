#!/usr/bin/env python3
"""sbatch, squeue and scancel of a Slurm without nodes, called by these names. Its jobs are files in `jobs` beside it.

Each call of squeue with `--jobs` ends the oldest job at work, which writes the reports of the study's jobs in it. Other
files beside it: `limits.json`: jobs that are taken (`submit`) and at work (`run`) at the same time; `reports.json`: id
of a study's job -> reports of its tries, `done` where there are none, null where its process is killed;
`squeue_fails`: squeue answers with an error; `calls` of sbatch and scancel.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
OPTIONS = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:] if word.startswith("--"))


def main() -> None:
    name = Path(sys.argv[0]).name
    jobs = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("jobs/*"))}
    if name != "squeue":
        with (FOLDER / "calls").open("a") as file:
            print(name, *sys.argv[1:], file=file)
    {"sbatch": submit, "squeue": show, "scancel": cancel}[name](jobs)
    begin_waiting(jobs)
    for number, job in jobs.items():
        (FOLDER / "jobs" / number).write_text(json.dumps(job))


def submit(jobs: dict[str, Any]) -> None:
    script = sys.stdin.read()
    if "test-only" in OPTIONS:
        return
    if sum(job["state"] in ("PENDING", "RUNNING") for job in jobs.values()) >= limits()["submit"]:
        print("sbatch: error: QOSMaxSubmitJobPerUserLimit", file=sys.stderr)
        print("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy", file=sys.stderr)
        sys.exit(1)
    number = str(1001 + len(jobs))
    jobs[number] = {**OPTIONS, "state": "PENDING", "script": script}
    print(number)


def show(jobs: dict[str, Any]) -> None:
    if (FOLDER / "squeue_fails").exists():
        print("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", file=sys.stderr)
        sys.exit(1)
    if "me" in OPTIONS:
        for number, job in jobs.items():
            if job["state"] in ("PENDING", "RUNNING"):
                print(number, job["comment"])
        return
    for number in OPTIONS["jobs"].split(","):
        if jobs[number]["state"] == "RUNNING":
            end(number, jobs[number])
            break
    begin_waiting(jobs)
    for number in OPTIONS["jobs"].split(","):
        print(f"{number}|{jobs[number]['state']}|None")


def cancel(jobs: dict[str, Any]) -> None:
    for number in sys.argv[1:]:
        if number in jobs and jobs[number]["state"] in (OPTIONS.get("state") or "PENDING RUNNING"):
            jobs[number]["state"] = "CANCELLED"


def begin_waiting(jobs: dict[str, Any]) -> None:
    for job in jobs.values():
        if job["state"] == "PENDING" and sum(j["state"] == "RUNNING" for j in jobs.values()) < limits()["run"]:
            job["state"] = "RUNNING"


def end(number: str, job: dict[str, Any]) -> None:
    path = FOLDER / "reports.json"
    reports = json.loads(path.read_text()) if path.exists() else {}
    words = shlex.split(job["script"])
    *_, folder = words[: words.index("polyglance.study.places.batch_job") + 5]
    folder = Path(folder.removeprefix("file://"))
    folder.mkdir(parents=True, exist_ok=True)
    job["state"] = "COMPLETED"
    for name in words[words.index("polyglance.study.places.batch_job") + 5 :: 2]:
        report = reports[name].pop(0) if reports.get(name) else {"ending": "done"}
        if report is None:
            job["state"] = "FAILED"
            break
        job["state"] = report.pop("state", job["state"])  # PENDING: requeued
        (folder / f"{name}.json").write_text(json.dumps({"slurm_id": number, "report": report}))
    path.write_text(json.dumps(reports))


def limits() -> dict[str, int]:
    path = FOLDER / "limits.json"
    return {"submit": 1000, "run": 1000, **(json.loads(path.read_text()) if path.exists() else {})}


if __name__ == "__main__":
    main()
