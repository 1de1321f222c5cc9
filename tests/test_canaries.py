"""The search for secrets in every run of the tests (canaries.py) finds what is planted, in each place and form."""

import base64
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.canaries import holds_secret
from tests.client.scripted_server import KEY
from tests.support import PASSWORD

ROOT = Path(__file__).parents[1]
TAG = "rflx_testaccnt0_"


@pytest.mark.parametrize("secret", [PASSWORD, KEY])
@pytest.mark.parametrize("before", range(4))
def test_every_form_is_found(secret: str, before: int) -> None:
    whole = b"x" * before + secret.encode() + b"y" * (before // 2)
    for form in (whole, whole.hex().encode(), whole.hex().upper().encode()):
        assert holds_secret(b"some" + form + b"more")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert holds_secret(b"some " + encode(whole) + b" more")


def test_what_is_public_is_no_secret() -> None:
    for text in (KEY[: len(TAG) + 4], f"Bearer {TAG}", "rflx_", "a password", PASSWORD[:-1]):
        assert not holds_secret(text.encode())


PLANTED = {
    "a log record of a.b": "logging.getLogger('a.b').debug('tried %s', PASSWORD)",
    "a log record of fields": "logging.getLogger('fields').info('x', extra={'key': KEY})",
    "a log record of traced": "try: raise OSError(KEY)\n    except OSError: logging.getLogger('traced').exception('x')",
    "Captured stdout call": "print(base64.b64encode(b'ab' + KEY.encode()).decode())",
    "the status of a call": "rpc_status.to_status(status_pb2.Status(code=3, message=KEY))",
    "a ReflexioError": "reflexio.ReflexioError('x', metadata={'given': PASSWORD})",
    "the file test_5": "(tmp_path / 'spool').write_bytes(KEY.encode().hex().encode())",
    "the lines of a server": "canaries.watch('the lines of a server', ['x', PASSWORD])",
}
HEAD = """
import base64, logging
import reflexio
from google.rpc import status_pb2
from grpc_status import rpc_status
from tests import canaries
from tests.client.scripted_server import KEY
from tools.server_process import PASSWORD
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not the tests' own folder, which is looked through."""
    made = Path(tempfile.mkdtemp(prefix="reflexio-canaries-"))
    yield made
    shutil.rmtree(made)


def run_tests(folder: Path, *bodies: str) -> subprocess.CompletedProcess[str]:
    tests = "".join(f"\n\ndef test_{number}(tmp_path):\n    {body}\n" for number, body in enumerate(bodies))
    (folder / "test_planted.py").write_text(HEAD + tests)
    command = [sys.executable, "-m", "pytest", "-p", "tests.canaries", "-c", "/dev/null", "--rootdir", str(folder)]
    command += ["--basetemp", str(folder / "base"), str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_a_leak_fails_the_run_and_is_named(folder: Path) -> None:
    planted = {name.replace("test_5", "test_60/spool"): body for name, body in PLANTED.items()}
    result = run_tests(folder, *planted.values())
    assert f"{len(planted)} passed" in result.stdout
    assert result.returncode == 1
    assert f"canaries: {len(planted)} secrets found in" in result.stdout
    for name in planted:
        assert f"  a password or key is in {name} (in " in result.stdout


def test_a_run_without_leaks_succeeds(folder: Path) -> None:
    result = run_tests(folder, "logging.getLogger('a').debug('%s', KEY[:20]); (tmp_path / 'a').write_text('x')")
    assert result.returncode == 0, result.stdout
    assert re.search(r"canaries: 0 secrets found in [1-9]\d* log records, 0 errors, 0 outputs, 1 files", result.stdout)
