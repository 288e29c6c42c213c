"""The version and the commit that results carry."""

import subprocess

from rsvlm.app.provenance import git_commit, provenance


def test_results_carry_the_version_and_the_commit_of_this_checkout(root):
    found = provenance()
    assert found["version"][0].isdigit()
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    ).stdout.strip()
    assert (found["git_commit"] or "").rstrip("+") == head


def test_somebody_elses_repository_around_a_wheel_is_not_its_commit(tmp_path):
    package = tmp_path / ".venv" / "lib" / "rsvlm"
    package.mkdir(parents=True)
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    assert git_commit(package) is None
    # Even where that repository is an rsvlm, out of which this package was not taken.
    own = tmp_path / "src" / "rsvlm"
    own.mkdir(parents=True)
    assert git_commit(package) is None
    assert len(git_commit(own)) == 40
