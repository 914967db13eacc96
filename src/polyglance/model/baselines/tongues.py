"""Languages of the benchmarks as baselines are asked for them: more than the project trains."""

from polyglance.languages import LANGUAGES

__all__ = ["NAMES", "NLLB_CODES"]

_OTHERS = {
    "ar": ("Arabic", "arb_Arab"),
    "bn": ("Bengali", "ben_Beng"),
    "cs": ("Czech", "ces_Latn"),
    "da": ("Danish", "dan_Latn"),
    "el": ("Greek", "ell_Grek"),
    "fa": ("Persian", "pes_Arab"),
    "fi": ("Finnish", "fin_Latn"),
    "fil": ("Filipino", "tgl_Latn"),
    "he": ("Hebrew", "heb_Hebr"),
    "hi": ("Hindi", "hin_Deva"),
    "hr": ("Croatian", "hrv_Latn"),
    "hu": ("Hungarian", "hun_Latn"),
    "id": ("Indonesian", "ind_Latn"),
    "it": ("Italian", "ita_Latn"),
    "ja": ("Japanese", "jpn_Jpan"),
    "ko": ("Korean", "kor_Hang"),
    "mi": ("Maori", "mri_Latn"),
    "nl": ("Dutch", "nld_Latn"),
    "no": ("Norwegian", "nob_Latn"),
    "pl": ("Polish", "pol_Latn"),
    "pt": ("Portuguese", "por_Latn"),
    "quz": ("Cusco Quechua", "quy_Latn"),
    "ro": ("Romanian", "ron_Latn"),
    "sv": ("Swedish", "swe_Latn"),
    "sw": ("Swahili", "swh_Latn"),
    "te": ("Telugu", "tel_Telu"),
    "th": ("Thai", "tha_Thai"),
    "tr": ("Turkish", "tur_Latn"),
    "uk": ("Ukrainian", "ukr_Cyrl"),
    "vi": ("Vietnamese", "vie_Latn"),
}
"""Codes of XM3600 and CoMMuTE; NLLB has no Cusco Quechua and gets its nearest, that of Ayacucho."""

NAMES: dict[str, str] = {code: entry.name for code, entry in LANGUAGES.items()} | {
    code: name for code, (name, _) in _OTHERS.items()
}
"""Language code -> English name."""
NLLB_CODES: dict[str, str] = {code: entry.nllb for code, entry in LANGUAGES.items()} | {
    code: nllb for code, (_, nllb) in _OTHERS.items()
}
"""Language code -> code of NLLB-200."""
