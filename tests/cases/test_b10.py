"""B10: a file of certificates that cannot be read, or has none, is one line on stderr."""

from pathlib import Path

import pytest

from reflexio.cli.spool import main
from tests.client.scripted_server import KEY


def test_certificates_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REFLEXIO_API_KEY", KEY)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("no certificate")
    for given in ("/nope", str(tmp_path), "~/nope", str(tmp_path / "empty"), "~/text", "a\0b", "~nobody/x"):
        assert main(["flush", "--root-certificates", given]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("reflexio: --root-certificates")
        assert said.err.count("\n") == 1
