"""A base and a build that goes on know the encoder that made them, by a text and a picture."""

import pytest
from knowledge_encoders import HashEncoder

from rsvlm.errors import UserError
from rsvlm.retrieval.knowledge_base import KnowledgeBase
from rsvlm.retrieval.knowledge_builder import Options
from rsvlm.retrieval.knowledge_records import KnowledgeRecord


def places(count):
    return [KnowledgeRecord(f"p{i}", image=f"picture_{i}.png") for i in range(count)]


class Seeing(HashEncoder):
    """Has a tower of pictures with weights of its own, as of a CLIP with a frozen text tower."""

    def __init__(self, tower=""):
        super().__init__()
        self.tower, self.seen = HashEncoder(salt=tower), 0

    def encode_images(self, images):
        self.seen += len(images)
        return self.tower.encode_images(images)

    def probe_picture(self):
        return self.tower.encode_texts(["a picture"])[0]


def test_another_tower_of_pictures_is_refused(tmp_path):
    base = KnowledgeBase.build(places(2), Seeing(), tmp_path / "kb")
    base.remove(["p0"])
    KnowledgeBase(tmp_path / "kb", Seeing())
    with pytest.raises(UserError, match="or with other weights"):
        KnowledgeBase(tmp_path / "kb", Seeing("tuned"))


@pytest.mark.parametrize(("tower", "anew"), [("", 2), ("tuned", 6)])
def test_a_build_goes_on_with_the_weights_that_it_began_with(tmp_path, tower, anew):
    def stop(done, count):
        if done == 4:
            raise KeyboardInterrupt

    options = Options(per_part=2)
    with pytest.raises(KeyboardInterrupt):
        KnowledgeBase.build(places(6), Seeing(), tmp_path / "kb", options=options, progress=stop)
    encoder = Seeing(tower)
    base = KnowledgeBase.build(places(6), encoder, tmp_path / "kb", options=options)
    assert encoder.seen == anew
    assert base.search("picture_1.png", k=1)[0].score == pytest.approx(1, abs=1e-5)
