"""A study: a grid of runs with their data and starting points, and their table, laws and report.

from polyglance.study import StudyConfig, run_study

result = run_study(load(StudyConfig, "examples/micro.toml"))      # result.report: the HTML page
"""

from polyglance.study.config import StudyConfig
from polyglance.study.study import plan_study, read_study_status, run_study, write_study_report

__all__ = ["StudyConfig", "plan_study", "read_study_status", "run_study", "write_study_report"]
