"""B9: the bound of bytes a second is gone: streams that owed more than their idle limit ended with IDLE."""

from pathlib import Path

from reflexio_server.config import Settings
from reflexio_server.rpc import shares

ROOT = Path(__file__).parents[2]


def test_the_setting_is_gone() -> None:
    assert "account_bytes_per_second" not in Settings.model_fields
    assert not hasattr(shares, "ByteRate")
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert not [page.name for page in documents if "bytes-per-second" in page.read_text()]
