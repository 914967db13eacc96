"""Files of the translation trade: SGML and XML of WMT, output of fairseq-generate."""

import html
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence

from polyglance.data.texts.text_set import Entry, FormContent, ReadOptions, TextFile

__all__ = ["is_fairseq", "is_markup", "read_fairseq", "read_markup"]

_SEGMENT = re.compile(r"<seg\b([^>]*)>(.*?)</seg\s*>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<(/?)(tstset|refset|srcset|doc|seg)\b([^>]*)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([\w:]+)\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+)""")
_INNER_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_FAIRSEQ_LINE = re.compile(r"^([STHDP])-(\d+)\t(.*)$", re.DOTALL)


def is_markup(file: TextFile, options: ReadOptions) -> bool:
    """Tell whether a file is SGML or XML: by the extension, or because it has segments in tags."""
    if options.as_lines:
        return False
    if file.suffix in (".sgm", ".sgml", ".xml"):
        return True
    return bool(re.search(r"<(seg|doc|tstset|refset)\b[^>]*>", file.text, re.IGNORECASE)) and (
        file.text.lstrip().startswith("<")
    )


def read_markup(file: TextFile, options: ReadOptions) -> FormContent:
    """Read segments of SGML (`tstset`, `refset`) or of WMT's XML (`dataset`, `hyp`, `ref`).

    Raises:
        ValueError: not one of them, no segments, a tag that does not end, or several systems.
    """
    where = str(file.path)
    if re.search(r"<(hyp|ref)\b", file.text, re.IGNORECASE):
        return _read_xml(file, options)
    if re.search(r"<(tmx|xliff)\b", file.text, re.IGNORECASE):
        raise ValueError(
            f"{where}: a translation memory, which holds sources and translations; write one of them as text"
        )
    if re.search(r"<srcset\b", file.text, re.IGNORECASE):
        raise ValueError(f"{where}: holds source texts (srcset), neither predictions nor references")
    segments = list(_read_sgml(file.text, where))
    if not segments:
        raise ValueError(f"{where}: markup without segments (<seg>); expected a text file with one text per line")
    systems = list(dict.fromkeys(system for _, system, _ in segments))
    used: frozenset[str] = frozenset()
    if options.text_column and set(systems) & set(options.text_column):
        segments = [segment for segment in segments if segment[1] in options.text_column]
        systems = [name for name in systems if name in options.text_column]
        used = frozenset(f"text_column {name}" for name in systems)
    if options.role == "predictions" and len(systems) > 1:
        per_id = len({name for name, _, _ in segments}) < len(segments)
        if per_id:
            raise ValueError(f"{where}: holds several systems ({', '.join(systems)}); name one with --text-column")
    return FormContent(entries=[(name, (text,)) for name, _, text in segments], layout="markup", used=used)


def _read_sgml(text: str, where: str) -> Iterator[tuple[str, str, str]]:
    """Yield id, system and text of each segment."""
    document = system = ""
    in_document = number = 0
    position = 0
    while (tag := _TAG.search(text, position)) is not None:
        position = tag.end()
        closing, name, rest = tag[1], tag[2].lower(), tag[3]
        attributes = {key.lower(): value.strip("\"'") for key, value in _ATTRIBUTE.findall(rest)}
        if closing:
            continue
        if name == "doc":
            document = attributes.get("docid") or attributes.get("id") or str(in_document + 1)
            system = attributes.get("sysid", system)
            in_document, number = in_document + 1, 0
        elif name in ("tstset", "refset"):
            system = attributes.get("sysid") or attributes.get("refid") or system
        elif name == "seg":
            segment = _SEGMENT.match(text, tag.start())
            if segment is None or _TAG.search(segment[2]):
                line = text.count("\n", 0, tag.start()) + 1
                raise ValueError(f"{where}:{line}: a segment that does not end (</seg>)")
            number += 1
            yield f"{document}:{attributes.get('id', number)}", system, _clean(segment[2])
            position = segment.end()


def _clean(text: str) -> str:
    """Drop inner tags, decode entities, and put blanks for line ends."""
    return " ".join(html.unescape(_INNER_TAG.sub(" ", text)).split())


def _read_xml(file: TextFile, options: ReadOptions) -> FormContent:
    """Read WMT's XML: the segments of `hyp` or `ref` in each document."""
    where = str(file.path)
    try:
        root = ElementTree.fromstring(re.sub(r"^<\?xml[^>]*\?>", "", file.text.lstrip()))
    except ElementTree.ParseError as error:
        raise ValueError(f"{where}: not valid XML ({error})") from None
    tag = "hyp" if options.role == "predictions" else "ref"
    found: list[tuple[str, str, str, str]] = []
    for number, document in enumerate(root.iter("doc"), 1):
        for group in document.iter(tag):
            name = group.get("system") or group.get("translator") or ""
            for index, segment in enumerate(group.iter("seg"), 1):
                key = f"{document.get('id', number)}:{segment.get('id', index)}"
                found.append((key, name, group.get("lang", ""), " ".join("".join(segment.itertext()).split())))
    if not found:
        raise ValueError(f"{where}: holds no {options.role} (<{tag}>)")
    languages = list(dict.fromkeys(language for _, _, language, _ in found if language))
    used: set[str] = set()
    if languages and options.language:
        wanted = [name for name in languages if re.split("[-_]", name)[0] == options.language]
        if not wanted:
            raise ValueError(f"{where}: its {options.role} are in {', '.join(languages)}, --lang is {options.language}")
        found = [row for row in found if not row[2] or row[2] in wanted]
    names = list(dict.fromkeys(name for _, name, _, _ in found))
    if options.text_column and set(names) & set(options.text_column):
        found = [row for row in found if row[1] in options.text_column]
        names = [name for name in names if name in options.text_column]
        used = {f"text_column {name}" for name in names}
    if options.role == "predictions" and len(names) > 1:
        raise ValueError(f"{where}: holds several systems ({', '.join(names)}); name one with --text-column")
    notes = (f"{where}: references of {', '.join(names)}",) if tag == "ref" and len(names) > 1 else ()
    return FormContent(
        entries=[(key, (text,)) for key, _, _, text in found], layout="markup", notes=notes, used=frozenset(used)
    )


def is_fairseq(file: TextFile, options: ReadOptions) -> bool:
    """Tell whether a file is output of fairseq-generate: most lines begin with S-, T-, H-, D- or P- and a number."""
    if options.as_lines:
        return False
    lines = [line for line in file.lines if line.strip()]
    return 2 * sum(bool(_FAIRSEQ_LINE.match(line)) for line in lines) > len(lines)


def read_fairseq(file: TextFile, options: ReadOptions) -> FormContent:
    """Read the predictions (D- lines, which are detokenised; else H-) or the references (T-).

    Raises:
        ValueError: there are none.
    """
    rows: dict[str, list[tuple[int, str, int]]] = {}
    for number, line in enumerate(file.lines, 1):
        if match := _FAIRSEQ_LINE.match(line):
            rows.setdefault(match[1], []).append((int(match[2]), match[3], number))
    wanted: Sequence[str] = ("D", "H") if options.role == "predictions" else ("T",)
    named = [kind for kind in options.text_column if kind in rows]
    kind = next((kind for kind in (named or wanted) if kind in rows), None)
    if kind is None:
        listed = ", ".join(f"{name}-" for name in rows)
        raise ValueError(f"{file.path}: output of fairseq-generate without {options.role}; it has lines {listed}")
    entries: list[Entry] = []
    for place, rest, number in sorted(rows[kind], key=lambda row: row[0]):
        score, tab, text = rest.partition("\t")
        if kind in "HD" and tab and not _is_number(score):
            raise ValueError(f"{file.path}:{number}: expected {kind}-{place}, a score and a text between tabs")
        entries.append((place, (text if kind in "HD" and tab else rest,)))
    others = ", ".join(f"{name}-" for name in rows if name != kind)
    notes = (f"{file.path}: output of fairseq-generate, lines {kind}-" + (f" (not {others})" if others else ""),)
    return FormContent(
        entries=entries, layout="fairseq", notes=notes, used=frozenset({f"text_column {kind}"} if named else ())
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
