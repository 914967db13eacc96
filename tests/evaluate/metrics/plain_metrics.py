"""The caption metrics as their papers and pycocoevalcap's behaviour state them, slowly: dictionaries and loops."""

from collections import Counter
from math import exp, log, sqrt

from hypothesis import strategies as st

Counts = Counter[tuple[str, ...]]


def segments(words: str = "abc", max_segments: int = 6, max_words: int = 9) -> st.SearchStrategy:
    """Hypotheses and references over few words, so that n-grams repeat and match; some texts are empty."""
    text = st.lists(st.sampled_from(words), max_size=max_words).map(" ".join)
    pairs = st.lists(st.tuples(text, st.lists(text, min_size=1, max_size=4)), min_size=1, max_size=max_segments)
    return pairs.map(lambda rows: ([text for text, _ in rows], [texts for _, texts in rows]))


def counts(text: str) -> Counts:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))


def document_frequencies(references: list[list[str]]) -> Counts:
    return Counter(gram for texts in references for gram in {gram for text in texts for gram in counts(text)})


def cider(
    hypotheses: list[str], references: list[list[str]], df: Counts | None = None, num_images: int = 0
) -> list[float]:
    """CIDEr of each image."""
    if df is None:
        df, num_images = document_frequencies(references), len(references)

    def vectors(text: str) -> list[dict[tuple[str, ...], float]]:
        weighed = {gram: tf * (log(num_images) - log(max(1, df[gram]))) for gram, tf in counts(text).items()}
        return [{gram: value for gram, value in weighed.items() if len(gram) == n} for n in range(1, 5)]

    def norm(vector: dict[tuple[str, ...], float]) -> float:
        return sqrt(sum(value**2 for value in vector.values()))

    scores = []
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        total = 0.0
        for text in texts:
            delta = max(len(hypothesis.split()) - 1, 0) - max(len(text.split()) - 1, 0)
            for h, r in zip(vectors(hypothesis), vectors(text), strict=True):
                if norm(h) and norm(r):
                    product = sum(min(h[gram], r[gram]) * r[gram] for gram in h if gram in r)
                    total += product / norm(h) / norm(r) * exp(-(delta**2) / 72)
        scores.append(10 * total / 4 / len(texts))
    return scores


def bleu(hypotheses: list[str], references: list[list[str]]) -> list[float]:
    """BLEU 1 to 4 of the corpus."""
    length = reference_length = 0
    total, correct = Counter[int](), Counter[int]()
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        num_words = len(hypothesis.split())
        length += num_words
        reference_length += min((abs(n - num_words), n) for n in (len(text.split()) for text in texts))[1]
        for gram, count in counts(hypothesis).items():
            total[len(gram)] += count
            correct[len(gram)] += min(count, max(counts(text)[gram] for text in texts))
    ratio = (length + 1e-15) / (reference_length + 1e-9)
    product, scores = 1.0, []
    for n in range(1, 5):
        product *= (correct[n] + 1e-15) / (total[n] + 1e-9)
        scores.append(product ** (1 / n) * (exp(1 - 1 / ratio) if ratio < 1 else 1))
    return scores


def rouge_l(hypothesis: str, references: list[str]) -> float:
    words = hypothesis.split(" ")

    def common(others: list[str]) -> int:
        table = [[0] * (len(others) + 1) for _ in range(len(words) + 1)]
        for i, word in enumerate(words):
            for j, other in enumerate(others):
                table[i + 1][j + 1] = table[i][j] + 1 if word == other else max(table[i][j + 1], table[i + 1][j])
        return table[-1][-1]

    precision = max(common(text.split(" ")) / len(words) for text in references)
    recall = max(common(text.split(" ")) / len(text.split(" ")) for text in references)
    if not precision or not recall:
        return 0.0
    return (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
