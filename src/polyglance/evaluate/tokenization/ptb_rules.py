r"""Rules of the PTB tokeniser: regular expressions of tokens, and how each token is printed.

The original is a longest-match scanner. At each place the rule with the longest match wins; of equally long matches,
the first rule. The lookahead of a rule counts for the length but is left for the next token: the group of a pattern is
the token, and the rest of the pattern is the lookahead. Tokens that are deleted later (quotation marks, dashes,
sentence punctuation) have rules too, because they decide where other tokens begin and end.

Rules read a text whose characters outside ASCII are replaced by their kinds (`ptb_characters.replace_by_kinds`). Its
case is kept: some rules distinguish upper and lower case. `(?i:...)` is as wide as in the original: `ı`, `ſ` and the
Kelvin sign count as `i`, `s` and `k`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from polyglance.evaluate.tokenization.ptb_characters import DIGIT, LETTER, MARK, MONEY, SYMBOL

__all__ = ["BEFORE_NUMBER", "RULES", "TokenRule"]

_SOFT_HYPHEN = "\u00ad"
_NO_BREAK_SPACE = "\u00a0"

# How tokens are printed.

_BRACKETS = {"(": "-LRB-", ")": "-RRB-", "[": "-LSB-", "]": "-RSB-", "{": "-LCB-", "}": "-RCB-"}
_FRACTIONS = {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_MONEY = {"¢": "cents", "£": "#", **dict.fromkeys("\x80¤₠€", "$")}
_QUOTES = {
    **dict.fromkeys(("'", "&apos;", "\x92", "\u2019", "\u203a"), "'"),
    **dict.fromkeys(("\x91", "\u2018", "\u201b", "\u2039"), "`"),
    **dict.fromkeys(('"', "&quot;", "\x94", "\u201d", "»"), "''"),
    **dict.fromkeys(("\x93", "\u201c", "«"), "``"),
}
_ANY_QUOTE = re.compile("|".join(_QUOTES))


def _keep(text: str) -> str:
    return text


def _drop_soft_hyphens(text: str) -> str:
    """Remove soft hyphens; a token of nothing else is a hyphen."""
    return text.replace(_SOFT_HYPHEN, "") or "-"


def _join_spaces(text: str) -> str:
    """Keep the spaces inside a token as no-break spaces."""
    return text.replace(" ", _NO_BREAK_SPACE)


def _join_spaces_name_brackets(text: str) -> str:
    """Keep the spaces inside a token as no-break spaces, and print `(` and `)` by their names."""
    return _join_spaces(text).replace("(", _BRACKETS["("]).replace(")", _BRACKETS[")"])


def _unescape_ampersand(text: str) -> str:
    return re.sub("(?i)&amp;", "&", text)


def _print_quotes(text: str) -> str:
    """Print quotation marks as LaTeX does; those without a LaTeX form, such as the low German ones, stay."""
    return _ANY_QUOTE.sub(lambda match: _QUOTES[match[0]], text)


def _print_dashes(text: str) -> str:
    return "--" if len(text) in (3, 4) else text


def _look_up(table: dict[str, str]) -> Callable[[str], str]:
    return lambda text: table.get(text, text)


def _print_as(token: str) -> Callable[[str], str]:
    return lambda _: token


# Pieces of patterns. Alternatives stand longest first: Python's engine takes the first that fits, not the longest.

# Characters
_ALPHABETIC = f"A-Za-z{LETTER}\u0130\u0131\u017f\u212a"
_DIGITS = f"0-9{DIGIT}"
_ANY_DIGIT = f"[{_DIGITS}]"
_SPACES = r" \t\u00a0\u2000-\u200a\u3000"
_SPACE_OR_LINE = rf"[{_SPACES}\r\n\u2028\u2029\x0b\x0c\x85]"

# Words: letters, marks and character entities (`caf&eacute;`), with `.`, `!` or `?` inside (`a.m`)
_ENTITY_LETTER = "(?i:&[aeiou](?:acute|grave|uml);)"
_WORD_LETTER = f"(?:[{_ALPHABETIC}{MARK}{_SOFT_HYPHEN}]|{_ENTITY_LETTER})"
_WORD_CHARACTER = f"(?:[{_ALPHABETIC}{MARK}{_SOFT_HYPHEN}{_DIGITS}]|{_ENTITY_LETTER})"
_WORD = f"{_WORD_LETTER}{_WORD_CHARACTER}*(?:[.!?]{_WORD_LETTER}{_WORD_CHARACTER}*)*"

# Apostrophes, and the short forms behind a word: `'ll`, `'s`, `n't`
_APOSTROPHE = "(?:['\x92\u2019]|(?i:&apos;))"
_APOSTROPHE_LIKE = "(?:['\x92\u2019`\x91\u2018\u201b]|(?i:&apos;))"
_CLITIC = f"{_APOSTROPHE}(?:(?i:ll|re|ve)|[msdMSD])"
_NOT = f"(?i:n){_APOSTROPHE_LIKE}(?i:t)"

# Words joined by hyphens or low lines (`rock-n-roll`, `d'eau-de-vie`), initials (`u.s`), companies (`R&D`, `A+B`)
_PLAIN = f"[{_ALPHABETIC}{_DIGITS}]"
_ELISION = f"(?:[dDoOlL]{_APOSTROPHE_LIKE}{_PLAIN})?"
_JOINED = rf"{_ELISION}{_PLAIN}+(?:[-_\u058a\u2010\u2011]{_ELISION}{_PLAIN}+)*"
_US = r"(?i:(?:Canada|Sino|Korean|EU|Japan|non)-U\.S|U\.S\.-U\.(?:K|S\.S\.R))"
_INITIALS = rf"(?:{_US}|[A-Za-z](?:\.[A-Za-z])+)"
_ACRONYM = f"(?:{_INITIALS}|[A-Za-z])"
_HYPHENATED = rf"[A-Za-z0-9][A-Za-z0-9.,{_SOFT_HYPHEN}]*(?:-(?:{_INITIALS}\.|[A-Za-z0-9{_SOFT_HYPHEN}]+))+"
_AND = "(?:(?i:&amp;)|&)"
_CAPITALS_AND = rf"[A-Z]+(?:(?:\+|{_AND})[A-Z]+)+"
_SLASHED = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_INSIDE_SENTENCE = "[,;:\u3001]"

# Numbers: `1,000.5`, `12:30`
_NUMBER = rf"(?:{_ANY_DIGIT}*(?:[.,:{_SOFT_HYPHEN}\u066b\u066c]{_ANY_DIGIT}+)+|{_ANY_DIGIT}+)"

# Addresses and markup
_NOT_IN_URL = r" \t\n\f\r\"<>|()"
_URL_END = rf"[^{_NOT_IN_URL}.!?{{}},-]"
_PATH = f"[^{_NOT_IN_URL}]+{_URL_END}"
_HOST = (
    rf"(?:(?i:www)\.(?:[^{_NOT_IN_URL}.!?{{}},]+\.)+[A-Za-z]{{2,4}}"
    # The range `,-_` is in the original: it excludes digits and capitals from a host without `www.`
    rf"|(?:[^{_NOT_IN_URL}`'.!?{{}},-_$]+\.)+(?i:com|net|org|edu))"
)
_MAIL_PART = rf"[^{_NOT_IN_URL}{{}}.\u00a0]+"
_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_ATTRIBUTE = rf" +{_NAME}(?: *= *(?:'[^']*'|\"[^\"]*\"))?"
_MARKUP = rf"<(?:[!?][A-Za-z-][^>\r\n]*|{_NAME}(?:{_ATTRIBUTE})* *(?:/ *)?|/{_NAME} *)>"


def _one_of(words: str) -> str:
    """Return a pattern that matches any of the words, in any case."""
    return "(?i:" + "|".join(words.split()) + ")"


def _capitalised(words: str) -> str:
    """Return a pattern that matches any of the words if its first letter is a capital."""
    return "(?:" + "|".join(f"{word[0]}(?i:{word[1:]})" for word in words.split()) + ")"


_CLOSING = _one_of(
    r"""
    Jan Feb Mar Apr Jun Jul Aug Sept? Oct Nov Dec Mon Tues? Wed Thu(?:rs)? Fri
    Ala? Ariz Calif Colo Conn Ct Dak Fla Ga Ind Kans? Ky Md Mich Minn Mo Mont Neb Nev Okla Penn Tenn Va Vt Wisc? Wyo
    Assn Bancorp Bhd Bldg Blvd Bros Cos? Corp (?:Ed|Ph)\.D Esq Est Etc Ext Inc Intl Jr Ltd Plc P?pt(?-i:[ey])s? Rd
    Rt Seq Sq Sr Sys Tel Univ
    """
)
_CLOSING_STATE = _capitalised("Ark Az Del Ill La Mass Miss Ore Pa Tex Wash")
"""Abbreviations that may end a sentence. Those that are also words count with a capital only."""
_TITLE = _one_of(
    r"""
    Adj Adm Adv Assoc Asst Attys? Ave Brig Capt Cmdr Col Comdr Cpl Dept Det Drs? Elec Ens Ft Gen Govs? Hon Insp
    Invt Lieut Lt Maj Messrs M(?-i:[ft])g Mlle Mme Mrs? Ms Msgr Mt Natl Pfc Ph Pres Profs? Pvt Reps? Rev Sens? Sfc
    Sgt Spc Ste? Supts? Treas a\.k\.a Alex Cie Jos Wm cf vs
    """
)
"""Abbreviations that do not end a sentence."""
BEFORE_NUMBER = _one_of("Art Bldg Ca Figs? Nos? Op Pp Prop")
"""Words that are abbreviations before a number only."""
_OPENING = _capitalised(
    r"""
    About According Additionally After An As At But Earlier Here However Her He If In It Last Many More Mr\. Ms\. Now
    Once One Other Our She Since Some So Such That Their Then There These They The This We What When While Yet You A
    """
)
"""Words that begin a sentence: a single letter with a full stop before them ends a sentence and is not an initial."""
_FILE_TYPE = _one_of(
    """
    bat bmp class cgi cpp c dll docx? exe gif gz html? h jar java jpe?g mov mp3 pdf php pl png ppt ps py sql tar txt wav
    xml x zip
    """
)
_BAR_NAMES = "-(?:LRB|RRB|LCB|RCB|LSB|RSB)-"


@dataclass(frozen=True, kw_only=True)
class TokenRule:
    """One kind of token."""

    pattern: re.Pattern[str]
    """Pattern of kinds. Its only group is the token; what follows the group is the lookahead."""
    format_token: Callable[[str], str]
    """Text of the token -> printed token, not yet in lower case."""


def _rule(pattern: str, format_token: Callable[[str], str] = _keep) -> TokenRule:
    return TokenRule(pattern=re.compile(pattern), format_token=format_token)


RULES: tuple[TokenRule, ...] = (
    # Programming languages, words that are two tokens (`|` is the end of the token), markup and character entities
    _rule(r"((?i:c)\+\+)"),  # C++
    _rule("((?i:c|f)#)"),  # C#
    _rule("((?i:can))(?i:not)"),  # can|not
    _rule("('(?i:t))(?i:was|is)"),  # 't|is
    _rule("((?i:gon|wan))(?i:na)"),  # gon|na
    _rule("((?i:got))(?i:ta)"),  # got|ta
    _rule("((?i:gim|lem))(?i:me)"),  # gim|me
    _rule(f"({_MARKUP})", _join_spaces),  # <a href="x">
    _rule(r"((?i:&(?:md|mdash|ndash);)|[\x96\x97\u2013-\u2015])", _print_as("--")),
    _rule("((?i:&nbsp;))", _print_as("")),
    _rule("((?i:&amp;))", _unescape_ampersand),
    _rule("((?i:&(?:HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+);))"),
    # Words, alone or before 's, 'll, n't, and words with an apostrophe that are one token
    _rule(f"({_WORD}){_CLITIC}", _drop_soft_hyphens),  # dog|'s
    _rule(f"([A-Za-z{_SOFT_HYPHEN}]*[A-MO-Za-z]{_SOFT_HYPHEN}*){_NOT}", _drop_soft_hyphens),  # is|n't
    _rule(f"({_WORD})", _drop_soft_hyphens),
    _rule(f"({_APOSTROPHE}(?i:n){_APOSTROPHE}?)"),  # rock 'n' roll
    _rule(f"([lLdDjJ]{_APOSTROPHE})"),  # l'|homme
    _rule(f"((?i:dunkin|somethin|ol){_APOSTROPHE})"),  # ol'
    _rule(f"({_APOSTROPHE}(?:(?i:em|till?|cause)|[2-9]0(?i:s)))"),  # 'cause, '90s
    _rule(rf"([A-HJ-XZn]{_APOSTROPHE_LIKE}[{_ALPHABETIC}]{{2,}})"),  # O'Brien
    _rule(f"([{_ALPHABETIC}]+[aeiouyAEIOUY]{_APOSTROPHE_LIKE}[aeiouA-Z][{_ALPHABETIC}]*)"),  # Hawai'i
    _rule(r"((?i:cont'd\.?|'twere|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l))"),
    _rule(f"((?i:o){_APOSTROPHE_LIKE}(?i:o))"),  # o'o
    _rule(f"((?i:y){_APOSTROPHE})[{_ALPHABETIC}]"),  # y'|all
    # Addresses
    _rule(rf"((?i:https?)://[^{_NOT_IN_URL}{{}}]+{_URL_END})"),  # http://x.y/z?q=1
    _rule(f"({_HOST})"),  # www.a.de
    _rule(f"({_HOST}/{_PATH})"),  # www.a.de/b
    _rule(rf"((?:(?i:&lt;)|<)?[A-Za-z0-9][^{_NOT_IN_URL}{{}}\u00a0]*@(?:{_MAIL_PART}\.)*{_MAIL_PART}(?:(?i:&gt;)|>)?)"),
    _rule("(@[A-Za-z_][A-Za-z_0-9]*)"),  # @home
    _rule(f"(#{_WORD_LETTER}+)"),  # #fun
    # What was left behind a word
    _rule(f"({_CLITIC})[^A-Za-z]", _print_quotes),
    _rule(f"({_NOT})[^A-Za-z]", _print_quotes),
    # Dates, numbers, fractions, money
    _rule(rf"({_ANY_DIGIT}{{1,2}}[-/]{_ANY_DIGIT}{{1,2}}[-/]{_ANY_DIGIT}{{2,4}})"),  # 1/2/2020
    _rule(f"([-+]?{_NUMBER})", _drop_soft_hyphens),  # -1,000.5
    _rule(r"([\u207a\u207b\u208a\u208b]?(?:[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+))"),
    _rule(
        rf"((?:{_ANY_DIGIT}{{1,4}}[- \u00a0])?{_ANY_DIGIT}{{1,4}}(?:\\?/|\u2044){_ANY_DIGIT}{{1,4}})",
        _join_spaces_name_brackets,
    ),
    _rule(r"([\u00bc-\u00be\u2153-\u215e])", _look_up(_FRACTIONS)),  # ½
    _rule(
        f"((?i:{_BAR_NAMES}|pro-|anti-|S{_AND}P-500|S{_AND}Ls|c{_APOSTROPHE}est|Cap{_APOSTROPHE}n))",
        _unescape_ampersand,
    ),
    _rule(rf"({_SLASHED}(?:\\?/{_SLASHED}){{1,2}})"),  # and/or
    _rule(r"([A-Z]*\$|#)"),  # US$
    _rule(f"({MONEY})", _look_up(_MONEY)),  # €
    _rule(f"({_CAPITALS_AND})", _unescape_ampersand),  # R&D
    _rule(rf"({_CAPITALS_AND}\.){_INSIDE_SENTENCE}", _unescape_ampersand),
    # Abbreviations with their period
    _rule(rf"({BEFORE_NUMBER}\.){_SPACE_OR_LINE}?{_ANY_DIGIT}"),  # No.| 5
    _rule(rf"((?i:pt[ey]|co)\.)[{_SPACES}](?i:ltd|lim)"),  # Co.| Ltd
    _rule(rf"((?:{_CLOSING}|{_CLOSING_STATE})\.)(?s:..)?"),  # Jan., Mass.
    _rule(rf"({_TITLE}\.)"),  # Mr.
    _rule(rf"([A-Za-z])\.{_SPACE_OR_LINE}+(?:{_OPENING}|{_MARKUP}){_SPACE_OR_LINE}"),  # plan B|. The dog
    _rule(rf"({_ACRONYM}\.)"),  # U.S.
    _rule(f"({_ACRONYM}){_SPACE_OR_LINE}"),
    _rule(f"({_APOSTROPHE}[0-9][0-9]){_SPACE_OR_LINE}"),  # '90
    _rule(rf"({_WORD_CHARACTER}+(?:\.{_WORD_CHARACTER}+)*\.{_FILE_TYPE})(?:{_SPACE_OR_LINE}|[.?!,])"),
    _rule(rf"({_WORD}\.){_INSIDE_SENTENCE}", _drop_soft_hyphens),
    _rule(rf"({_JOINED}\.){_INSIDE_SENTENCE}"),
    # Telephone numbers
    _rule(
        r"((?:\([0-9]{2,3}\)[ \u00a0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \u00a0])?[0-9]{2,4}[- \u00a0])"
        r"[0-9]{3,4}[- \u00a0]?[0-9]{3,5}"
        r"|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5})",
        _join_spaces_name_brackets,
    ),
    # Quotation marks, smileys, joined words, punctuation
    _rule('("|(?i:&quot;))', _print_quotes),
    _rule(r"(')[A-Za-z][^ \t\n\r\u00a0]", _print_quotes),
    _rule(f"({_CLITIC})", _print_quotes),
    _rule(f"({_NOT})", _print_quotes),
    _rule("(<|(?i:&lt;))", _print_as("<")),
    _rule("(>|(?i:&gt;))", _print_as(">")),
    _rule(r"([<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]])[^A-Za-z0-9]", _join_spaces_name_brackets),  # :-)
    _rule(r"([-\^x=~<>']_[-\^x=~<>'])"),  # ^_^
    _rule(r"(\((?:[-\^x=~<>'][_.]?[-\^x=~<>']|[\^x=~<>']-[\^x=~<>'`])\))", _join_spaces_name_brackets),  # (^_^)
    _rule(f"({_JOINED})"),  # rock-n-roll
    _rule(f"({_HYPHENATED})", _drop_soft_hyphens),  # 20-year-old
    _rule(rf"({_HYPHENATED}\.){_INSIDE_SENTENCE}", _drop_soft_hyphens),
    _rule(r"(\.{3,5}|(?:\.[ \u00a0]){2,4}\.|[\x85\u2026])", _print_as("...")),
    _rule("(-+)", _print_dashes),
    _rule(r"([?!]+|@+|#+|_+|<<|>>|\*+|(?:\\\*){1,4})"),
    _rule(r"([()\[\]{}])", _look_up(_BRACKETS)),
    _rule(rf"(''|[`\x91-\x94\u2018-\u201f\u2039\u203a\u00ab\u00bb]{{1,2}}|{_APOSTROPHE})", _print_quotes),
    _rule(rf"([!-/:-@^-`~|\\{SYMBOL}\u2044\u207a\u207b\u208a\u208b\u3001])"),
)
"""Rules in the order that decides between equally long matches."""
