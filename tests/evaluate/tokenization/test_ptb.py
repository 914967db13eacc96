"""The PTB tokeniser gives the strings of CoreNLP 3.4.1 behind coco-caption: its outputs, a table, properties."""

import gzip
import json
from collections import defaultdict
from itertools import zip_longest
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polyglance.evaluate.tokenization.ptb import PTB, REMOVED_TOKENS, ptb_tokenize

GOLD = Path(__file__).parents[4] / "shared" / "data" / "eval"
needs_gold = pytest.mark.skipif(not GOLD.exists(), reason=f"needs the official tool's outputs in {GOLD}")

LINE_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"

CASES = [
    # en
    ("A man isn't there, is he?", "a man is n't there is he"),
    ("We cannot wait; they're gonna win!", "we can not wait they 're gon na win"),
    ("WE'LL SEE IT'S WHERE THEY'RE, DON'T", "we 'll see it 's where they 're do n't"),
    ("The dog's ball & two cats' toys.", "the dog 's ball & two cats toys"),
    ("I'd've said: 'tis 5 o'clock.", "i 'd 've said 't is 5 o'clock"),
    ("Mr. O'Brien of the U.S. Army etc.", "mr. o'brien of the u.s. army etc."),
    ("A 20-year-old in a T-shirt (size XL)", "a 20-year-old in a t-shirt -lrb- size xl -rrb-"),
    ("They ran 3.5 miles -- uphill...", "they ran 3.5 miles uphill"),
    ('"Stop!" she said.', "stop she said"),
    ("rock 'n' roll in the '90s", "rock 'n' roll in the '90s"),
    ("Bill Smith Jr. lives on 5th Ave. near St. Paul.", "bill smith jr. lives on 5th ave. near st. paul"),
    ("This is plan B. A man waits.", "this is plan b a man waits"),
    ("Mail a.b@c.org or see http://x.y/z?q=1, please", "mail a.b@c.org or see http://x.y/z?q=1 please"),
    ("on www.a.de/Ph.D.No.i.e.x now", "on www.a.de/ph.d.no.i.e.x now"),
    ("Call (650) 555-0199 or +1 650 555 0199", "call -lrb-650-rrb-\xa0555-0199 or +1 650\xa0555\xa00199"),
    ("Add 2 1/2 cups, ½ spoon, 3/4 litre", "add 2\xa01/2 cups 1/2 spoon 3/4 litre"),
    ("It costs $5, £6, €7 or 80¢.", "it costs $ 5 # 6 $ 7 or 80 cents"),
    ("AT&T and R&D at 12:30pm on 1/2/2020", "at&t and r&d at 12:30 pm on 1/2/2020"),
    ("No. 5 of Acme Co. Ltd. and Fig. 3", "no. 5 of acme co. ltd. and fig. 3"),
    ("C++ and C# in main.py.", "c++ and c# in main.py"),
    ('<b>bold</b> &amp; <a href="x y">link</a>', '<b> bold </b> & <a\xa0href="x\xa0y"> link </a>'),
    ("@home #fun :) ;-) ^_^ <3", "@home #fun :-rrb- ;--rrb- ^_^ < 3"),
    ("wait...what?! no!!", "wait what ?! no !!"),
    ("50% off / 24 hours * 7 days", "50 % off / 24 hours * 7 days"),
    ("Y'all gotta see this", "y' all got ta see this"),
    ("snake_case and kebab-case, and/or both", "snake_case and kebab-case and/or both"),
    # fr
    ("L'homme d'affaires s'assoit à l'hôtel.", "l'homme d'affaires s assoit à l'hôtel"),
    ("Aujourd’hui, c’est l’été !", "aujourd hui c’est l’été"),
    ("« Bonjour », dit-elle ; qu'est-ce que c'est ?", "bonjour dit-elle qu'est ce que c'est"),
    ("Jusqu'à 1 200,50 € l'unité", "jusqu à 1 200,50 $ l'unité"),
    ("Un porte-monnaie à côté d'une boîte aux lettres.", "un porte-monnaie à côté d'une boîte aux lettres"),
    ("J'ai vu Mme. Dupont et M. Martin.", "j'ai vu mme. dupont et m. martin"),
    # de
    ("Ein Mann mit Hut, z.B. „Grüße“ sagend.", "ein mann mit hut z.b. „ grüße sagend"),
    ("Die 3-jährige Schülerin läuft d.h. sie eilt.", "die 3-jährige schülerin läuft d.h. sie eilt"),
    ("Straße Nr. 5 – am 1. Mai um 14:30 Uhr", "straße nr 5 am 1 mai um 14:30 uhr"),
    ("Rock’n’Roll-Sänger und ‚Fans‘", "rock ’n’ roll-sänger und ‚ fans"),
    # es
    ("¿Qué pasa aquí? ¡Nada!", "¿ qué pasa aquí ¡ nada"),
    ("Un niño de 5 años, n.º 3, con piñata.", "un niño de 5 años n.º 3 con piñata"),
    # it
    ("L'uomo dell'ufficio è all'aperto; c'è un po' di vino.", "l'uomo dell ufficio è all aperto c è un po di vino"),
    # pt
    ("Uma mulher à beira-mar d’água, R$ 10,00.", "uma mulher à beira-mar d’água r$ 10,00"),
    # ru
    ("Человек в шапке — «герой» №5.", "человек в шапке герой № 5"),
    ("Собака бежит по траве, т.е. быстро…", "собака бежит по траве т.е быстро"),
    ("Кто-то из-за угла: да?", "кто-то из-за угла да"),
    # uk
    ("П'ять дітей і м’яч.", "п ять дітей і м яч"),
    # cs
    ("Muž v „černém“ klobouku, 2. května, ap.", "muž v „ černém klobouku 2 května ap"),
    # pl
    ("Dwóch mężczyzn; jeden z psem (średnim).", "dwóch mężczyzn jeden z psem -lrb- średnim -rrb-"),
    # el
    ("Ένας ΣΚΥΛΟΣ τρέχει· γιατί;", "ένας σκυλος τρέχει · γιατί"),
    # tr
    ("İki kişi İstanbul'da IŞIK altında.", "i̇ki kişi i̇stanbul da işik altında"),
    # zh
    ("一只狗，在草地上跑。", "一只狗 ， 在草地上跑 。"),
    ("“你好”！３０元（约5美元）……", "你好 ！ ３０元 （ 约5美元 ）"),
    ("他在iPhone上看《红楼梦》、喝茶", "他在iphone上看 红楼梦 、 喝茶"),
    # ja
    ("「犬」が走っている。カメラ・マン", "犬 が走っている 。 カメラ ・ マン"),
    # ko
    ("개가 잔디밭에서 뛰고 있다.", "개가 잔디밭에서 뛰고 있다"),
    # th
    ("สุนัขกำลังวิ่งบนหญ้า ๆ ราคา ๕๐ บาท", "สุนัขกำลังวิ่งบนหญ้า ๆ ราคา ๕๐ บาท"),
    # ar
    ("كلب يركض، هل تراه؟ ٣٫٥ كم", "كلب يركض ، هل تراه ؟ ٣٫٥ كم"),
    # he
    ('איש עם כובע צה"ל', "איש עם כובע צה ל"),
    # hi
    ("एक कुत्ता घास पर दौड़ रहा है।", "एक कुत्ता घास पर दौड़ रहा है ।"),
    # bn
    ("একটি কুকুর।", "একটি কুকুর ।"),
    # ta
    ("ஒரு நாய் ஓடுகிறது.", "ஒரு நாய் ஓடுகிறது"),
    # te
    ("ఒక కుక్క పరుగెత్తుతోంది.", "ఒక కుక్క పరుగెత్తుతోంది"),
    # sw
    ("Mbwa anakimbia ng'ambo ya mto.", "mbwa anakimbia ng ambo ya mto"),
    # mi
    ("Ko te kurī e oma ana.", "ko te kurī e oma ana"),
    # vi
    ("Một con chó chạy trên cỏ, giá 5.000đ.", "một con chó chạy trên cỏ giá 5.000 đ"),
    # signs, control characters, characters beyond the basic plane
    ("\U0001f600 smile \U0001f44d\U0001f3fd I \u2764\ufe0f NY", "smile i \u2764 ny"),
    ("na\xefve caf\xe9 e\u0301te\u0301", "na\xefve caf\xe9 e\u0301te\u0301"),
    ("soft\xadhyphen zero\u200bwidth no\xa0break", "softhyphen zero width no break"),
    ("a\x00b\x7fc", "a b c"),
    ("\u201elow\u201c \u201asingle\u2018 \u2039a\u203a \u201cb\u201d \u2018c\u2019", "\u201e low \u201a single a b c"),
    ("a \u2013 b \u2014 c - d -- e ---- f", "a b c d e f"),
    (
        "\uff26\uff35\uff2c\uff2c\u3000\uff57\uff49\uff44\uff54\uff48\uff01",
        "\uff46\uff55\uff4c\uff4c \uff57\uff49\uff44\uff54\uff48 \uff01",
    ),
    ("x\xb2 + H\u2082O = 10\u207b\xb3 \xbd \u2153 \u215d", "x \xb2 + h \u2082 o = 10 \u207b\xb3 1/2 1/3 \u215d"),
    ("-LRB- [a] {b} (c)", "-lrb- -lsb- a -rsb- -lcb- b -rcb- -lrb- c -rrb-"),
    ("a\tb  c   d", "a b c d"),
    ("\u2122 \xae \xa9 \xa7 \xb0 \u2022 \u2026 \xb7 \xbf \xa1", "\u2122 \xae \xa9 \xa7 \xb0 \u2022 \xb7 \xbf \xa1"),
    ("\u2177 \u2167 \u24d0 \ufb01 \u01c4 \u1e9e", "\u24d0 \ufb01 \u01c6 \xdf"),
    ("\U0001d400\U00020000 a\U00010400b", "a b"),
    ("&quot;x&quot; &lt;y&gt; &nbsp; caf&eacute;", "x < y > caf&eacute;"),
]
"""Own sentences and what the original prints for each (OpenJDK 17)."""

wild_texts = st.lists(
    st.one_of(
        st.text(),
        st.text(alphabet="aBé5١ .,:;!?'\"`-–_/\\()[]<>@#$&*~|’“„«…½²€\xa0\xad\u200b\u2028😀Σ字ก\u0301\t\n"),
        st.sampled_from(
            ["Co.", "Ltd", "No.", "5", "1/2", "<b", ">", "(650)", "555-0199", "B.", "The", "a@b.c", "U.S."]
        ),
    ),
    max_size=6,
).map(" ".join)


def read_jsonl(path: Path) -> list[dict[str, object]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@needs_gold
def test_edge_cases_of_the_official_tool() -> None:
    rows = read_jsonl(GOLD / "ptb" / "ptb_edge_cases.jsonl.gz")
    assert len(rows) == 24
    assert ptb_tokenize([str(row["caption"]) for row in rows]) == [row["ptb"] for row in rows]


@needs_gold
def test_five_thousand_captions_of_the_official_tool() -> None:
    rows = read_jsonl(GOLD / "ptb" / "ptb_multi30k_task2_test2016.en.jsonl.gz")
    captions = []
    for number in range(1, 6):
        with gzip.open(
            GOLD / "multi30k" / "task2" / "raw" / f"test_2016.{number}.en.gz", "rt", encoding="utf-8"
        ) as file:
            captions.append(file.read().split("\n")[: len(rows)])
    for number, texts in enumerate(captions):
        assert ptb_tokenize(texts) == [row["ptb"][number] for row in rows]  # type: ignore[index]


@needs_gold
def test_coco_example_of_the_official_tool() -> None:
    folder = GOLD / "coco_fakecap"
    captions = defaultdict(list)
    for row in json.loads((folder / "en_captions_val2014.json").read_text(encoding="utf-8"))["annotations"]:
        captions[str(row["image_id"])].append(row["caption"])
    references = (folder / "en_captions_val2014_references_after_tokenization.json").read_text(encoding="utf-8")
    expected = json.loads(references)
    assert len(expected) == 1000
    assert {image: ptb_tokenize(captions[image]) for image in expected} == expected

    results = json.loads((folder / "en_captions_val2014_fakecap_results.json").read_text(encoding="utf-8"))
    hypotheses = (folder / "en_captions_val2014_results_after_tokenization.json").read_text(encoding="utf-8")
    assert {str(row["image_id"]): ptb_tokenize([row["caption"]]) for row in results} == json.loads(hypotheses)


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_text_is_tokenised_as_by_the_original(text: str, expected: str) -> None:
    assert ptb_tokenize([text]) == [expected]


@pytest.mark.parametrize("line_break", LINE_BREAKS)
def test_line_break_in_a_text_is_a_space_and_shifts_nothing(line_break: str) -> None:
    texts = [f"a dog{line_break}runs 2{line_break}1/2 miles", "two cats", line_break, "the end."]
    assert ptb_tokenize(texts) == ["a dog runs 2\xa01/2 miles", "two cats", "", "the end"]


def test_pieces_met_before_do_not_change_what_depends_on_the_next_word() -> None:
    texts = ["plan B.", "plan B. A man", "about 2", "about 2 1/2", "Acme Co.", "Acme co. ltd", "see no. x", "see no. 5"]
    expected = [
        "plan b.",
        "plan b a man",
        "about 2",
        "about 2\xa01/2",
        "acme co.",
        "acme co. ltd",
        "see no x",
        "see no. 5",
    ]
    assert ptb_tokenize(texts) == expected
    assert ptb_tokenize(texts[::-1]) == expected[::-1]


@pytest.mark.parametrize(
    ("text", "following", "expected"),
    [
        ("This is plan B.", "", "this is plan b."),
        ("This is plan B.", "the dog", "this is plan b."),
        ("This is plan B.", "The dog", "this is plan b"),
        ("This is plan B. ", "\u2028A dog", "this is plan b"),
        ("(B.", "<b> bold", "-lrb- b"),
        ("(B.", "<b>", "-lrb- b"),
        ("U.S.", "A dog", "u.s."),
        ("Eine neue Art.", "Ein Hund", "eine neue art"),
        ("Eine neue Art.", "3 Hunde", "eine neue art."),
        ("Eine neue Art.", " 3 Hunde", "eine neue art"),
    ],
)
def test_next_text_decides_about_the_full_stop_of_some_last_words(text: str, following: str, expected: str) -> None:
    """As the original, which reads all texts as one file."""
    assert ptb_tokenize([text, following])[0] == expected


@given(st.lists(wild_texts, max_size=5))
@example(["B.", "B. The", "Art.", "5"])
def test_each_text_stands_for_itself_but_for_the_one_after_it(texts: list[str]) -> None:
    pairs = zip_longest(texts, texts[1:], fillvalue="")
    assert ptb_tokenize(texts) == [ptb_tokenize([text, following])[0] for text, following in pairs]


@given(wild_texts)
def test_output_is_one_line_of_kept_tokens(text: str) -> None:
    (output,) = ptb_tokenize([text])
    assert len(output.splitlines()) <= 1
    tokens = output.split(" ") if output else []
    assert "" not in tokens
    assert not REMOVED_TOKENS.intersection(tokens)
    assert output == ptb_tokenize(["".join(" " if character in LINE_BREAKS else character for character in text)])[0]


def test_registered_tokeniser_names_its_version() -> None:
    assert (PTB.name, PTB.version) == ("ptb", "corenlp-3.4.1")
    assert PTB.tokenize(["A dog."]) == ["a dog"]
    assert len(REMOVED_TOKENS) == 17
