"""Features of pictures stay in a folder for other runs, each tower's in its own."""

import pytest
import torch
from torch import nn

from rsvlm.errors import UserError
from rsvlm.nn.feature_cache import cache_of, folder_of


def forbidden(images):
    raise AssertionError("computed again")


def test_another_run_finds_them_and_another_tower_does_not(tmp_path):
    tower = nn.Conv2d(3, 2, 1)
    images = torch.randint(0, 256, (4, 3, 5, 5), dtype=torch.uint8)
    cache = cache_of(tower, 0.1, tmp_path)
    with torch.no_grad():
        first = cache(images, lambda x: tower(x.float()).half())
        cache(images[:2].flip(-1), lambda x: tower(x.float()).half())
    again = cache_of(tower, 0.1, tmp_path)
    assert torch.equal(again(images[[3, 0, 3]], forbidden), first[[3, 0, 3]])
    assert again.hits == 3 and len(again.kept) == 6
    assert folder_of(tmp_path, nn.Conv2d(3, 2, 1)) != again.folder
    assert cache_of(tower, 0.0, tmp_path) is None and cache_of(tower, 0.1, None).folder is None


def test_a_file_of_something_else_is_named(tmp_path):
    tower = nn.Conv2d(3, 2, 1)
    folder = folder_of(tmp_path, tower)
    folder.mkdir()
    (folder / "part.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"part\.pt holds no features"):
        cache_of(tower, 0.1, tmp_path)
