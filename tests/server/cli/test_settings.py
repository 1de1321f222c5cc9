"""The settings of `serve`: each a flag and a variable, and what is said of a wrong value."""

import re
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from pydantic import SecretStr

from reflexio_server import lifecycle
from reflexio_server.cli.settings import SECRETS
from reflexio_server.config import ENVIRONMENT_PREFIX, Settings
from tests.command import EMAIL, run, said
from tests.support import PASSWORD

ROOT = Path(__file__).parents[3]


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper()


def flags_of() -> dict[str, Any]:
    """The settings that are flags too: others would see a secret there."""
    return {name: field for name, field in Settings.model_fields.items() if name not in SECRETS}


def test_the_help_of_serve_lists_every_setting() -> None:
    text = " ".join(run("serve", "--help").stdout.split())
    for name, field in flags_of().items():
        assert flag(name) in text
        assert variable(name) in text
        assert field.description
        assert field.description.split()[0] in text
        if field.default_factory is None and field.default is not None:
            assert f"env: {variable(name)}; default: {field.default}]" in text


# Of each setting a value that is wrong, and one that is not its default.
WRONG: dict[str, str] = {
    "database_url": "mysql://host/name",
    "database_connections": "3",
    "port": "65536",
    "embedder": "gpt",
    "chroma_url": "ftp://chroma",
    "chroma_tenant": "a/b",
    "chroma_database": "..",
    "workers": "19",
    "python_core": "-1",
    "max_streams": "0",
    "account_calls": "0",
    "account_streams": "0",
    "stream_idle_seconds": "0",
    "login_tries": "0",
    "login_tries_per_address": "0",
    "grace_seconds": "-1",
    "max_connection_age_seconds": "0",
    "max_connection_age_grace_seconds": "0",
    "write_queue": "0",
    "freshness_seconds": "-0.5",
    "vector_cache_mb": "0",
    "log_level": "loud",
    "log_format": "xml",
    "metrics_port": "65536",
    "max_interactions": "0",
    "max_content_bytes": "0",
    "max_image_bytes": "0",
    "max_message_bytes": "1",
}
RIGHT: dict[str, tuple[str, Any]] = {
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("1234", 1234),
    "share_port": ("true", True),
    "tls_cert": ("some/cert.pem", Path("some/cert.pem").absolute()),
    "tls_key": ("some/key.pem", Path("some/key.pem").absolute()),
    "tls_client_ca": ("some/ca.pem", Path("some/ca.pem").absolute()),
    "insecure": ("true", True),
    "database_url": ("postgresql://host/name", SecretStr("postgresql://host/name")),
    "database_url_file": ("some/url", Path("some/url").absolute()),
    "database_connections": ("9", 9),
    "migrate": ("true", True),
    "data_dir": ("some/data", Path("some/data").absolute()),
    "model_dir": ("some/models", Path("some/models").absolute()),
    "embedder": ("wordllama", "wordllama"),
    "chroma_url": ("https://chroma.example:8000/", "https://chroma.example:8000"),
    "chroma_token_file": ("some/token", Path("some/token").absolute()),
    "chroma_tenant": ("people", "people"),
    "chroma_database": ("their-words", "their-words"),
    "workers": ("99", 99),
    "python_core": ("3", 3),
    "max_streams": ("7", 7),
    "account_calls": ("9", 9),
    "account_streams": ("3", 3),
    "stream_idle_seconds": ("1.5", 1.5),
    "login_tries": ("3", 3),
    "login_tries_per_address": ("25", 25),
    "grace_seconds": ("0", 0.0),
    "max_connection_age_seconds": ("300", 300.0),
    "max_connection_age_grace_seconds": ("20", 20.0),
    "write_queue": ("77", 77),
    "freshness_seconds": ("0.25", 0.25),
    "vector_cache_mb": ("64", 64),
    "reflection": ("true", True),
    "indexing": ("false", False),
    "read_pictures": ("true", True),
    "log_level": ("warning", "warning"),
    "log_format": ("json", "json"),
    "metrics_port": ("9464", 9464),
    "metrics_host": ("::1", "::1"),
    "max_interactions": ("5", 5),
    "max_content_bytes": ("1000", 1000),
    "max_image_bytes": ("2000", 2000),
    "max_message_bytes": ("100000", 100_000),
}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that `serve` would have started a server with."""
    taken: list[Settings] = []
    monkeypatch.setattr(lifecycle, "serve", taken.append)
    return taken


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_names_flag_and_variable(served: list[Settings], name: str) -> None:
    by_flag = said(run("serve", flag(name), WRONG[name]))
    by_variable = said(run("serve", env={variable(name): WRONG[name]}))
    for text in (by_flag, by_variable):
        assert f"{flag(name)} (or {variable(name)}): " in text
    assert served == []


@pytest.mark.parametrize(("name", "value"), [("port", "http"), ("grace_seconds", "soon"), ("workers", "1.5")])
def test_a_value_that_is_no_number_is_refused(served: list[Settings], name: str, value: str) -> None:
    assert flag(name) in said(run("serve", flag(name), value))
    assert f"{flag(name)} (or {variable(name)}): " in said(run("serve", env={variable(name): value}))
    assert f"{variable('reflection')}): " in said(run("serve", env={variable("reflection"): "perhaps"}))
    assert served == []


def test_several_wrong_values_are_said_together(served: list[Settings]) -> None:
    text = said(run("serve", "--port", "-1", env={"REFLEXIO_WORKERS": "3"}))
    assert "--port" in text
    assert "--workers" in text
    text = said(run("serve", "--max-image-bytes", "20000000"))
    assert "max_image_bytes must be smaller than max_message_bytes" in text


SWITCHES = {  # as RIGHT has them
    "reflection": "--reflection",
    "insecure": "--insecure",
    "share_port": "--share-port",
    "migrate": "--migrate",
    "indexing": "--no-indexing",
    "read_pictures": "--read-pictures",
}


def test_the_lists_above_have_every_setting() -> None:
    assert set(RIGHT) == set(flags_of())
    free = {"host", "metrics_host", "data_dir", "model_dir", "tls_cert", "tls_key", "tls_client_ca", *SWITCHES}
    assert set(WRONG) == set(flags_of()) - free - {"chroma_token_file", "database_url_file"}


def test_every_setting_is_a_flag_and_a_variable(served: list[Settings]) -> None:
    by_variable = {variable(name): value for name, (value, _) in RIGHT.items()}
    flags: list[str] = []
    for name, (value, _) in RIGHT.items():
        flags += [SWITCHES[name]] if name in SWITCHES else [flag(name), value]
    assert run("serve", env=by_variable).exit_code == 0
    assert run("serve", *flags).exit_code == 0
    assert run("serve").exit_code == 0
    expected = {name: value for name, (_, value) in RIGHT.items()} | dict.fromkeys(SECRETS)
    assert [served[0].model_dump(), served[1].model_dump()] == [expected, expected]
    defaults = served[2].model_dump()
    assert [name for name in RIGHT if defaults[name] == expected[name]] == []
    assert defaults["data_dir"] == platformdirs.user_data_path("reflexio")
    assert defaults["model_dir"] == platformdirs.user_cache_path("reflexio") / "models"


def test_the_url_of_a_database_is_one_and_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "url"
    command = ("accounts", "list", "--database-url-file", file)
    assert f"cannot read {file}: No such file" in said(run(*command))
    file.write_text("hidden://user:hidden@host/name\n")
    text = said(run(*command))
    assert "does not begin with postgresql://" in text
    assert "hidden" not in text
    assert "give one of them" in said(run(*command, env={"REFLEXIO_DATABASE_URL": "postgresql://host/name"}))
    assert "hidden" not in said(run("accounts", "list", env={"REFLEXIO_DATABASE_URL": "hidden://"}))


SECRET = "canary-7f3a9"


@pytest.mark.parametrize(
    ("arguments", "env", "said_of_it"),
    [
        (["--chroma-url", f"http://me:{SECRET}@chroma"], {}, "no login in the URL"),
        ([], {"REFLEXIO_CHROMA_URL": f"http://chroma/?token={SECRET}"}, "without ? and #"),
        (["--chroma-url", "chroma:8000"], {}, "give http:// or https://"),
        (["--chroma-url", "http://:8000"], {}, "give http:// or https://"),
        (["--chroma-url", "http://chroma:port"], {}, "give http:// or https://"),
        (["--chroma-token-file", "token"], {}, "--chroma-token-file needs --chroma-url"),
        (
            ["--chroma-url", "http://chroma", "--chroma-token-file", "token"],
            {"REFLEXIO_CHROMA_TOKEN": SECRET},
            "are both given",
        ),
    ],
)
def test_what_is_wrong_with_a_chroma_server_is_said_without_secrets(
    served: list[Settings], arguments: list[str], env: dict[str, str], said_of_it: str
) -> None:
    text = said(run("serve", *arguments, env=env))
    assert said_of_it in text
    assert SECRET not in text
    assert served == []


def test_a_token_is_a_variable_and_no_flag(served: list[Settings]) -> None:
    assert run("serve", "--chroma-token", SECRET).exit_code == 2
    assert run("serve", "--chroma-url", "http://chroma", env={"REFLEXIO_CHROMA_TOKEN": SECRET}).exit_code == 0
    (settings,) = served
    assert settings.chroma_token is not None
    assert settings.chroma_token.get_secret_value() == SECRET
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_the_leaders_url_is_a_variable_and_no_flag(served: list[Settings]) -> None:
    url = f"postgresql://me:{SECRET}@direct/name"
    assert run("serve", "--leader-url", url).exit_code == 2
    assert run("serve", env={"REFLEXIO_LEADER_URL": url}).exit_code == 0
    (settings,) = served
    assert settings.leader_url is not None
    assert settings.leader_url.get_secret_value() == url
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()}"
    wrong = said(run("serve", env={"REFLEXIO_LEADER_URL": f"mysql://me:{SECRET}@direct/name"}))
    assert "REFLEXIO_LEADER_URL): " in wrong
    assert SECRET not in wrong


def test_a_flag_is_stronger_than_a_variable_and_an_empty_variable_is_none(served: list[Settings]) -> None:
    env = {"REFLEXIO_PORT": "1", "REFLEXIO_REFLECTION": "true", "REFLEXIO_DATA_DIR": "", "REFLEXIO_WORKERS": ""}
    assert run("serve", "--port", "2", "--no-reflection", env=env).exit_code == 0
    (settings,) = served
    assert (settings.port, settings.reflection, settings.workers) == (2, False, 128)
    assert settings.data_dir == platformdirs.user_data_path("reflexio")


def test_data_dir_by_environment_in_every_command(tmp_path: Path) -> None:
    env = {"REFLEXIO_DATA_DIR": str(tmp_path)}
    assert run("accounts", "create", EMAIL, given=PASSWORD, env=env).exit_code == 0
    assert EMAIL in run("accounts", "list", env=env).stdout
    assert EMAIL in run("accounts", "list", "--data-dir", tmp_path, env={"REFLEXIO_DATA_DIR": "elsewhere"}).stdout


def test_the_installed_model_is_found_with_a_data_dir_given(tmp_path: Path, model_dir: Path) -> None:
    arguments = ("model", "install", "--quiet-if-present", "--model-dir", model_dir, "--data-dir", tmp_path)
    result = run(*arguments)
    assert (result.exit_code, result.output) == (0, "")


def test_the_readme_has_every_setting_in_its_table() -> None:
    table: dict[str, tuple[str, str]] = {}
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        found = re.match(r"`(--[a-z-]+)[ `/]", cells[0])
        if line.startswith("|") and found and len(cells) >= 3:
            assert found[1] not in table, "twice"
            table[found[1]] = (cells[1], cells[2].strip("`"))
    assert set(table) == {flag(name) for name in flags_of()}
    for name, field in flags_of().items():
        shown, default = table[flag(name)]
        assert shown == f"`{variable(name)}`"
        if field.default_factory is None and field.default is not None:
            assert default.replace(",", "") == str(field.default)
        else:
            assert default, "in words"
