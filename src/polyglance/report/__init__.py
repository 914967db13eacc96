"""The report of a study: one self-contained HTML page with the paper's figures, and the same numbers for machines.

    from polyglance.report import write_report

    result = write_report(Path("out/study"))    # out/study/report/index.html and results.json

It only reads the study's files (`polyglance.report.folder`) and loads neither torch nor transformers.
"""

from polyglance.report.page import ReportResult, write_report

__all__ = ["ReportResult", "write_report"]
