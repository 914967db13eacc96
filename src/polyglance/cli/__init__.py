"""polyglance: image captioning for languages that have no captions.

Each verb is one library function; here arguments are parsed and results printed, no more. Nothing heavy is imported
before a verb is chosen, so that `polyglance --help` answers at once.
"""

import os
import sys
from collections.abc import Sequence

from tyro.extras import SubcommandApp

from polyglance import __version__
from polyglance.cli import build as _build  # noqa: F401  its verbs are those of `data`
from polyglance.cli import law, model
from polyglance.cli.data import data_app
from polyglance.cli.eval import eval_app
from polyglance.cli.results import results
from polyglance.cli.score import score
from polyglance.cli.study import study_app
from polyglance.cli.train import train

__all__ = ["app", "main"]

app, law_app, model_app = SubcommandApp(), SubcommandApp(), SubcommandApp()
for law_verb in (law.fit, law.compare, law.predict, law.plan):
    law_app.command(law_verb)
for model_verb in (model.card, model.assemble, model.convert):
    model_app.command(model_verb)
app.command(data_app, name="data", help="Make, build, count and look at data sets.")
app.command(model_app, name="model", help="Sizes and their costs; initial models; checkpoints of the published code.")
app.command(model.caption)
app.command(model.translate)
app.command(train)
app.command(eval_app, name="eval", help="Have a model caption, translate, disambiguate; measure its losses.")
app.command(score)
app.command(results)
app.command(law_app, name="law", help="Fit scaling laws to a table of runs, compare them, predict and plan.")
app.command(study_app, name="study", help="A grid of runs, from data to the report.")


def main(args: Sequence[str] | None = None) -> None:
    """Entry point. A user's mistake is one line on standard error and exit code 2."""
    if not sys.stderr.isatty():  # transformers' bars, which would fill a log
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    given = list(sys.argv[1:] if args is None else args)
    if given[:2] == ["eval", "--list"]:  # as other evaluators have it
        given[1] = "list"
    try:
        app.cli(prog="polyglance", description=f"{__doc__.splitlines()[0]} Version {__version__}.", args=given)
    except ValueError as error:
        print(f"polyglance: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:  # whoever read our output had enough of it: `polyglance ... | head`
        sys.stderr.close()
        raise SystemExit(1) from None
    except OSError as error:  # a full or read-only disk, a folder where a file should be
        print(
            f"polyglance: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr
        )
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("polyglance: interrupted; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
