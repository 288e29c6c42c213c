"""WordNet's own files: synonyms and forms as NLTK's METEOR asks for them."""

import pytest

from rsvlm.errors import UserError
from rsvlm.metrics.captions import nltk_style, wordnet
from rsvlm.metrics.captions.nltk_style import missing_meteor, nltk_meteor

#: Part of speech -> the words of each meaning.
MEANINGS = {
    "noun": [("roof", "rooftop", "house_top"), ("ox",), ("church", "Kirk")],
    "verb": [("roof",)],
    "adj": [("galore(ip)", "abounding")],
    "adv": [("soon",)],
}


@pytest.fixture
def files(tmp_path):
    for pos, meanings in MEANINGS.items():
        data, index = b"  1 a licence\n", {}
        for words in meanings:
            for word in words:
                index.setdefault(word.partition("(")[0].lower(), []).append(len(data))
            held = " ".join(f"{word} 0" for word in words)
            data += f"{len(data):08d} 06 n {len(words):02x} {held} 000 | a meaning\n".encode()
        (tmp_path / f"data.{pos}").write_bytes(data)
        lines = [
            f"{word} {pos[0]} {len(at)} 0 {len(at)} 0 {' '.join(f'{n:08d}' for n in at)}\n"
            for word, at in sorted(index.items())
        ]
        (tmp_path / f"index.{pos}").write_text("  1 a licence\n" + "".join(lines))
    (tmp_path / "noun.exc").write_text("oxen ox\n")
    return tmp_path


def test_words_of_forms(files):
    held = wordnet.WordNet(files)

    def names(word):
        return [[lemma.name() for lemma in one.lemmas()] for one in held.synsets(word)]

    assert names("roofs") == [["roof", "rooftop", "house_top"], ["roof"]], "noun and verb"
    assert names("Oxen") == [["ox"]] and names("churches") == [["church", "Kirk"]]
    assert names("abounding") == [["galore", "abounding"]] and names("tower") == []
    data = files / "data.noun"
    whole = data.read_bytes()
    data.write_bytes(whole.replace(b"\n", b"\r\n"))
    assert wordnet.WordNet(files).synsets("ox")[0].lemmas()[0].name() == "ox"
    data.write_bytes(b"x" + whole)
    with pytest.raises(UserError, match="do not belong together"):
        wordnet.WordNet(files).synsets("ox")


def test_meteor_finds_synonyms_in_them(files, monkeypatch):
    pytest.importorskip("nltk")
    monkeypatch.setattr(nltk_style, "_of_nltk", lambda resource: False)
    monkeypatch.setenv(wordnet.VARIABLE, str(files))
    assert missing_meteor() is None
    near, far = nltk_meteor(["red roof", "red roof"], [["red rooftop"], ["red tower"]], str.split)
    assert near == pytest.approx(1 - 0.5 / 8) and far < 0.5


def test_where_to_get_it_is_said(tmp_path, monkeypatch):
    pytest.importorskip("nltk")
    monkeypatch.setattr(nltk_style, "_of_nltk", lambda resource: False)
    monkeypatch.setattr(wordnet, "FOLDERS", ())
    monkeypatch.delenv(wordnet.VARIABLE, raising=False)
    assert "apt-get install wordnet-base" in missing_meteor()
    monkeypatch.setenv(wordnet.VARIABLE, str(tmp_path))
    assert "there are no index.noun" in missing_meteor()
    with pytest.raises(UserError, match="there are no index"):
        nltk_meteor(["a"], [["a"]], str.split)
