"""docs/languages.md: the plugin lines for other languages that can be tried here."""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.polyglot.conftest import Built
from tools.toolchains import ROOT

BUF = Path(sys.executable).with_name("buf")
PROTOC = ROOT / ".venv" / "tools" / "bin" / "protoc"


def test_the_builtin_plugin_lines_work(built: Built, tmp_path: Path) -> None:
    """With the protoc that makes the Java messages."""
    built("java")
    if not PROTOC.exists():
        subprocess.run([str(ROOT / "scripts" / "generate"), "java"], check=True, timeout=120)
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "languages.md").read_text(), re.MULTILINE | re.DOTALL)
    plugins = [plugin for block in blocks for plugin in yaml.safe_load(block) if "protoc_builtin" in plugin]
    assert [plugin["protoc_builtin"] for plugin in plugins] == ["csharp", "java", "kotlin", "ruby", "php"]
    template = {"version": "v2", "plugins": [plugin | {"protoc_path": str(PROTOC)} for plugin in plugins]}
    command = [str(BUF), "generate", str(ROOT / "proto"), "--template", json.dumps(template)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    gen = tmp_path / "gen"
    assert "namespace Reflexio.V1" in (gen / "csharp" / "Interaction.cs").read_text()
    assert (gen / "kotlin" / "com" / "reflexio" / "v1" / "InteractionKt.kt").exists()
    assert "module Reflexio\n  module V1" in (gen / "ruby" / "reflexio" / "v1" / "interaction_pb.rb").read_text()
    assert "namespace Reflexio\\V1;" in (gen / "php" / "Reflexio" / "V1" / "Interaction.php").read_text()
