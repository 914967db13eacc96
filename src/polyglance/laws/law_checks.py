"""Checks of the values of a law file: a file that was edited is read as it says or refused, never half of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polyglance.laws.arrays import Floats
from polyglance.laws.equations.form import Form

__all__ = ["check_law_values", "check_parameters", "read_fit_arrays"]

_ROUNDING = 1e-6
"""Largest relative difference of a parameter from what theta says, by which platforms may differ."""
_LARGEST = 1e150
"""Bound on the numbers of a fit, whose products are then finite."""
_FLAGS = ("converged",)
_TEXTS = ("at_bound", "at_user_bound", "unmoved")


def check_law_values(values: Mapping[str, Any], form: Form) -> None:
    """Compare the parts of a law file that stand beside the fits with its form.

    Raises:
        ValueError: names of another form, no fit, or a part that is no object; one line.
    """
    for name, expected in (("predictors", form.predictors), ("parameter_names", form.parameters)):
        if list(values[name]) != list(expected):
            raise ValueError(f"{name} are {values[name]}; form {form.name!r} has {list(expected)}")
    for name in ("columns", "config", "data", "fits"):
        if not isinstance(values[name], Mapping):
            raise ValueError(f"{name} is {type(values[name]).__name__}; expected an object with names and values")
    if not values["fits"]:
        raise ValueError("fits is empty; expected a fit for each group")
    for name in form.predictors:
        if not isinstance(values["columns"].get(name), str):
            raise ValueError(f"columns has no name for {name}")


def read_fit_arrays(values: Mapping[str, Any], form: Form) -> dict[str, Floats]:
    """Return the arrays of a fit as floats, and check its other numbers.

    Raises:
        ValueError: an array of another shape, or a number that is none or out of its range; one line.
    """
    num = len(form.parameters)
    arrays = {
        "theta": _read_array(values, "theta", (num,)),
        "reference": _read_array(values, "reference", (len(form.predictors),)),
        "draws": _read_array(values, "draws", (None, num)),
        "residuals": _read_array(values, "residuals", (None,)),
    }
    for name in ("rows", "frontier"):
        rows = _read_array(values, name, (None,))
        if (rows < 0).any() or (rows != np.floor(rows)).any():
            raise ValueError(f"{name}: expected row numbers from 0")
    if len(values["rows"]) != len(arrays["residuals"]):
        raise ValueError(f"residuals: {len(arrays['residuals'])} for {len(values['rows'])} rows")
    for name in ("objective", "r2_log", "r2_raw"):
        _read_number(values, name)
    if not _read_number(values, "spread") > 0:
        raise ValueError(f"spread is {values['spread']}; expected a positive number")
    if not 0.5 <= _read_number(values, "confidence") < 1:
        raise ValueError(f"confidence is {values['confidence']}; expected at least 0.5 and below 1")
    if not isinstance(values["seed"], int) or values["seed"] < 0:
        raise ValueError(f"seed is {values['seed']!r}; expected a whole number from 0")
    _check_ranges(values["ranges"], form)
    for name, ends in values["intervals"].items():
        if name not in form.parameters or _read_ends(f"intervals: {name}", ends, may_be_open=True) is None:
            raise ValueError(f"intervals: {name!r} is not a parameter; expected {', '.join(form.parameters)}")
    if unknown := set(values["unidentified"]) - set(form.parameters):
        raise ValueError(f"unidentified: {sorted(unknown)[0]!r} is not a parameter")
    for part in ("held_out", "solver"):
        _check_report(part, values.get(part) or {})
    return arrays


def check_parameters(written: Mapping[str, Any], computed: Mapping[str, float], unidentified: Sequence[str]) -> None:
    """Refuse parameters that were edited: predictions come from theta, and would not follow them.

    Raises:
        ValueError: a parameter differs from what theta says.
    """
    for name, value in computed.items():
        given = written[name]
        if given is None and name in unidentified:
            continue
        if not isinstance(given, int | float) or not abs(given - value) <= _ROUNDING * abs(value) + 1e-300:
            raise ValueError(f"parameters: {name} is {given}, but theta says {value:.6g}; predictions follow theta")


def _read_array(values: Mapping[str, Any], name: str, shape: tuple[int | None, ...]) -> Floats:
    """Return an array of numbers below LARGEST; None in the shape is any length, and an empty list has any shape."""
    expected = " x ".join("n" if size is None else str(size) for size in shape)
    try:
        array = np.array(values[name])
    except ValueError:  # rows that differ in length
        array = np.array("")
    if isinstance(values[name], list) and not values[name] and shape[0] is None:
        return np.empty((0, *(size or 0 for size in shape[1:])))
    fits = array.ndim == len(shape) and all(
        size in (None, length) for size, length in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind not in "fiu" or not (np.abs(array) < _LARGEST).all():
        raise ValueError(f"{name}: expected {expected} finite numbers below {_LARGEST:g}")
    return array.astype(float)


def _read_number(values: Mapping[str, Any], name: str) -> float:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{name} is {value!r}; expected a finite number")
    return float(value)


def _read_ends(where: str, ends: Any, *, may_be_open: bool = False) -> tuple[float | None, float | None]:
    if not isinstance(ends, list) or len(ends) != 2:
        raise ValueError(f"{where}: expected two numbers, the smaller first")
    low, high = (
        None if end is None and may_be_open else _read_number({where: end}, where) for end in (ends[0], ends[1])
    )
    if low is not None and high is not None and low > high:
        raise ValueError(f"{where} from {low:g} to {high:g}; expected the smaller number first")
    return low, high


def _check_ranges(ranges: Mapping[str, Any], form: Form) -> None:
    for name, ends in ranges.items():
        low, _ = _read_ends(f"ranges: {name}", ends)
        if name in form.predictors and form.logarithmic and not (low or 0.0) > 0:
            raise ValueError(f"ranges: {name} begins at {low}; expected a positive number")
    missing = [name for name in form.predictors if name not in ranges]
    if ranges and missing:
        raise ValueError(f"ranges: {', '.join(missing)} missing; give the range of each predictor, or of none")


def _check_report(part: str, values: Mapping[str, Any]) -> None:
    """Check the numbers of the held-out error, or of the solver."""
    for name, value in values.items():
        is_right = isinstance(value, int | float) and np.isfinite(value)
        if name in _TEXTS:
            is_right = isinstance(value, list) and all(isinstance(one, str) for one in value)
        elif name in _FLAGS:
            is_right = isinstance(value, bool)
        elif name == "coverage" and value is None:
            continue
        if not is_right:
            raise ValueError(f"{part}: {name} is {value!r}, which is not what a fit writes")
