"""Inline SVG: colours as variables, ids of its own, texts escaped."""

from polyglance.report.svg import COLOURS, make_log_axis, make_panel, render_svg, use_report_style


def draw(name: str, text: str = "<b>&$x$") -> str:
    with use_report_style():
        axes = make_panel(300, 200)
        make_log_axis(axes, "x", [10_000.0, 40_000.0], "{:g}".format)
        axes.plot([10_000], [1], "o", color=COLOURS["s1"], gid="point")
        axes.set_title(text)
        return render_svg(axes, name, "a <label>", {"point": "run <1>"})


def test_follows_the_page() -> None:
    svg = draw("one")
    assert svg.startswith("<svg ")
    assert "var(--s1)" in svg
    assert COLOURS["s1"] not in svg
    assert "font-family" not in svg
    assert "<style" not in svg
    assert "http" not in svg
    assert "&lt;b&gt;&amp;$x$" in svg
    assert "<title>run &lt;1&gt;</title>" in svg
    assert 'aria-label="a &lt;label&gt;"' in svg


def test_ids_of_two_figures_do_not_meet() -> None:
    def ids(svg: str) -> set[str]:
        return {part.split('"')[0] for part in svg.split('id="')[1:]}

    assert ids(draw("one"))
    assert not ids(draw("one")) & ids(draw("two"))
    assert draw("one") == draw("one")
