"""A study: a grid of runs with their data and starting points, and their table, laws and report.

from polyglance.study import StudyConfig, run_study

result = run_study(load(StudyConfig, "examples/micro.toml"))      # result.report: the HTML page

Folders, from the lowest to the highest (imports point to earlier ones only):
    config, cluster   the study's TOML file
    grid/             the jobs, their models, inputs and states
    store/            a study in an object store: claims of jobs, their files, the copy of the call
    project/          the files of a new project (`init`)
    results/          table, predictions, laws, report
    work/             the work of one job, the same on every place
    places/           local workers, Ray, Slurm
    planning/         expected costs, a simulated cluster
    watching/         progress, the live page
    study             the operations: plan, run, status, report
    evaluation        `eval --on`, `caption --on`: an evaluation as jobs
    doctor            examination of the machine
"""

from polyglance.study.config import StudyConfig
from polyglance.study.study import plan_study, read_study_status, run_study, write_study_report

__all__ = ["StudyConfig", "plan_study", "read_study_status", "run_study", "write_study_report"]
