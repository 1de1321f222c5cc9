"""All settings in one place. Each is a flag of `reflexio-server serve` and an environment variable REFLEXIO_…"""

import os
import re
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from reflexio_server.process import NO_HOME

ENVIRONMENT_PREFIX = "REFLEXIO_"
_URLS = ("postgresql://", "postgres://")
_NO_URL = "does not begin with postgresql://; for SQLite leave the setting out"
# What Kubernetes tells a container of a Service, under a name that may be a setting's: REFLEXIO_PORT=tcp://10.0.0.1:80
_OF_A_SERVICE = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)

OTHER_CONNECTIONS = 4
"""To PostgreSQL, beside those of readers: two that write, one that claims what is to be embedded, and the leader's."""

CHROMA_SETTINGS = ("chroma_url", "chroma_token_file", "chroma_token", "chroma_tenant", "chroma_database")
_CHROMA_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{1,510}[A-Za-z0-9]$"


class HomeUnknown(Exception):
    """A folder was not given, and whoever runs this has no home to keep it in; the text says what to give."""


class UrlUnknown(Exception):
    """The database's URL cannot be told; the text says why, and not what it is."""


def service_variables() -> list[str]:
    """The variables that have a setting's name and tell of a Service instead; they are ignored."""
    names = {f"{ENVIRONMENT_PREFIX}{name}".upper() for name in Settings.model_fields}
    return sorted(name for name, value in os.environ.items() if name.upper() in names and _OF_A_SERVICE.match(value))


def _data_dir() -> Path:
    return _at_home(platformdirs.user_data_path("reflexio"), "--data-dir (or REFLEXIO_DATA_DIR)")


def _model_dir() -> Path:
    return _at_home(platformdirs.user_cache_path("reflexio") / "models", "--model-dir (or REFLEXIO_MODEL_DIR)")


def _at_home(folder: Path, setting: str) -> Path:
    if folder.is_relative_to(NO_HOME):
        raise HomeUnknown(f"give {setting}: there is no home folder, where it would be by default")
    return folder


class Settings(BaseSettings):
    """What can be set. The README's table lists every field; a test keeps it so."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8081, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    share_port: bool = Field(
        default=False,
        description="Let other processes of this user listen on the port too (SO_REUSEPORT); each new connection goes "
        "to one of them.",
    )
    tls_cert: Path | None = Field(
        default=None, description="PEM file of the server's certificate and its chain; followed when it changes."
    )
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's key, without a passphrase.")
    tls_client_ca: Path | None = Field(
        default=None,
        description="PEM file of the authority whose certificates clients must show. Default: they need none.",
    )
    insecure: bool = Field(
        default=False, description="Listen in clear text where others can reach it; for private networks only."
    )
    data_dir: Path = Field(
        default_factory=_data_dir,
        description="Folder of the database and the index. Default: the platform's data folder.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL's database to keep everything in but the index: postgresql://USER@HOST/NAME; give a "
        "password by the variable or a file. Needs the extra postgres. Default: SQLite in --data-dir.",
    )
    database_url_file: Path | None = Field(
        default=None, description="File whose first line is the database's URL; for one with a password."
    )
    database_connections: int = Field(
        default=20,
        ge=OTHER_CONNECTIONS + 2,
        le=1000,
        description=f"Connections to PostgreSQL at the same time, {OTHER_CONNECTIONS} not for reading.",
    )
    migrate: bool = Field(
        default=False,
        description="With PostgreSQL: bring an older database to this version's schema at the start, as "
        "`reflexio-server migrate` does.",
    )
    leader_url: SecretStr | None = Field(
        default=None,
        description="URL of the same database for the session that leads, to go past a proxy; no flag, as others see "
        "those.",
    )
    model_dir: Path = Field(
        default_factory=_model_dir, description="Folder of the embedding model. Default: the platform's cache folder."
    )
    embedder: str = Field(
        default="minilm",
        pattern="^(minilm|minilm-int8|minilm-fp32|e5|wordllama)$",
        description="Embedding model: minilm (int8 where the processor suits it), minilm-int8, minilm-fp32, "
        "e5 (many languages; needs the extra multilingual) or wordllama (light; needs the extra of that name).",
    )
    chroma_url: str | None = Field(
        default=None,
        description="URL of a Chroma server for searches of whole accounts, such as http://127.0.0.1:8000. "
        "Default: Chroma in a process of the server's own, its files below the data folder.",
    )
    chroma_token_file: Path | None = Field(
        default=None,
        description="File with the token that the Chroma server, or what stands before it, asks for; read again at "
        "each connection. Default: the variable REFLEXIO_CHROMA_TOKEN, else none.",
    )
    chroma_token: SecretStr | None = Field(default=None, description="The token itself; no flag, as others see those.")
    chroma_tenant: str = Field(
        default="default_tenant",
        pattern=_CHROMA_NAME,
        description="Tenant on the Chroma server; made if it is not there.",
    )
    chroma_database: str = Field(
        default="default_database",
        pattern=_CHROMA_NAME,
        description="Database of that tenant; made if it is not there.",
    )
    workers: int = Field(
        default=128,
        ge=20,
        le=1000,
        description="Calls taken at the same time; of unary ones half as many do their work, the others wait.",
    )
    python_core: int | None = Field(
        default=None,
        ge=0,
        description="Number of the core that Python's threads keep to, models run on the others; Linux only. "
        "Default: all run on all.",
    )
    max_streams: int = Field(
        default=32, ge=1, le=984, description="Streams open at the same time, of all accounts; at most workers - 16."
    )
    account_calls: int | None = Field(
        default=None,
        ge=1,
        description="Calls of one account handled at the same time, streams apart. Default: seven eighths of the "
        "workers, and half of them while others need some.",
    )
    account_streams: int | None = Field(
        default=None, ge=1, description="Streams of one account open at the same time. Default: half of all."
    )
    stream_idle_seconds: float = Field(
        default=60.0,
        gt=0,
        description="A publish stream that sends nothing for so long ends with IDLE; a call whose client so long "
        "neither sends its message nor takes the answer is cancelled.",
    )
    grace_seconds: float = Field(
        default=10.0, ge=0, description="How long calls in flight may take to finish after SIGTERM."
    )
    max_connection_age_seconds: float | None = Field(
        default=None,
        ge=0.1,
        le=1_000_000,
        description="Age at which a connection ends, so that its client connects anew, to whichever server serves; "
        "about a tenth more or less. For where several serve. Default: none.",
    )
    max_connection_age_grace_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=1_000_000,
        description="How long calls in flight may take to finish on a connection of that age; a publish stream that is "
        "open for half as long ends with its verdict.",
    )
    login_tries: int = Field(
        default=10, ge=1, description="Failed logins of one account from one address; then one more each minute."
    )
    login_tries_per_address: int = Field(
        default=30,
        ge=1,
        description="Failed logins from one address in a minute, whatever the account; a third of them at once.",
    )
    write_queue: int = Field(
        default=1024, ge=1, description="Writes that may wait; beyond it callers get RESOURCE_EXHAUSTED."
    )
    freshness_seconds: float = Field(
        default=1.0, ge=0, description="How long a search may wait for vectors of what its user just published."
    )
    indexing: bool = Field(
        default=True,
        description="Make vectors behind publishing. Off, for a large import: what is published is found by its "
        "words only, until a start with it on catches up.",
    )
    read_pictures: bool = Field(
        default=False,
        description="Read what stands in pictures, also in older ones, so that it is found; needs the extra ocr and "
        "`model install --ocr`.",
    )
    vector_cache_mb: int = Field(
        default=256, ge=1, description="Memory for vectors of the users searched last, in MiB."
    )
    reflection: bool | None = Field(
        default=None, description="Server reflection. Default: on when listening on loopback only."
    )
    log_level: str = Field(
        default="info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error."
    )
    log_format: str = Field(default="text", pattern="^(text|json)$", description="text, or json: an object a line.")
    metrics_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port for Prometheus; 0 takes a free one. Default: none."
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address to listen on for Prometheus.")
    max_interactions: int = Field(default=1000, ge=1, description="Interactions in one request.")
    # A response of 3 MiB must have room for any one interaction.
    max_content_bytes: int = Field(default=64 * 1024, ge=1, le=1024 * 1024, description="Bytes of one content.")
    max_image_bytes: int = Field(default=8 * 1024 * 1024, ge=1, description="Bytes of one picture.")
    max_message_bytes: int = Field(default=16 * 1024 * 1024, ge=64 * 1024, description="Bytes of one message.")

    @model_validator(mode="before")
    @classmethod
    def _without_service_variables(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if not _OF_A_SERVICE.match(str(value))}

    @field_validator(
        *("data_dir", "model_dir", "tls_cert", "tls_key", "tls_client_ca", "chroma_token_file", "database_url_file")
    )
    @classmethod
    def _from_here(cls, path: Path | None) -> Path | None:
        """Its place at the start, wherever the process goes; no shell resolves the `~` of a file of variables."""
        if path is None:
            return None
        try:
            path = path.expanduser().absolute()
            str(path).encode()
        except RuntimeError:
            raise ValueError(f"{path} begins with a user's home, which is not known") from None
        except UnicodeEncodeError:
            raise ValueError(f"{path!a} is not UTF-8: choose a path that is") from None
        except OSError as error:
            raise ValueError(f"{path} is below the current folder, which cannot be used: {error.strerror}") from None
        if path.is_relative_to(NO_HOME):
            raise ValueError(f"{path} would be below a home folder, and there is none: give a full path")
        return path

    @property
    def database(self) -> str | None:
        """The database's URL, which may have a password in it; None: SQLite in `data_dir`. Raises UrlUnknown."""
        file = self.database_url_file
        if file is None:
            return self.database_url.get_secret_value() if self.database_url else None
        if self.database_url is not None:
            raise UrlUnknown("--database-url and --database-url-file say the same: give one of them")
        try:
            url = file.read_text().partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UrlUnknown(f"--database-url-file: cannot read {file}: {reason}") from None
        if not url.startswith(_URLS):
            raise UrlUnknown(f"--database-url-file: the first line of {file} {_NO_URL}")
        return url

    @field_validator("database_url", "leader_url")
    @classmethod
    def _is_of_a_known_kind(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(_URLS):
            raise ValueError(_NO_URL)
        return url

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key go together: one of them is missing")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("--tls-client-ca needs TLS: give --tls-cert and --tls-key too")
        return self

    @field_validator("chroma_url")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        """What is wrong with it is said without it: it may hold a password."""
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            known = False
        if not known:
            raise ValueError("give http:// or https://, a host, and a port if it is another than 80 or 443")
        if "@" in parts.netloc:
            raise ValueError("a URL is seen by others: give a token by --chroma-token-file, and no login in the URL")
        if parts.query or parts.fragment:
            raise ValueError("a URL without ? and #")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _one_chroma_token(self) -> Self:
        if self.chroma_token_file is not None and self.chroma_token is not None:
            raise ValueError("--chroma-token-file and REFLEXIO_CHROMA_TOKEN are both given: which one is it?")
        if self.chroma_token_file is not None and self.chroma_url is None:
            raise ValueError("--chroma-token-file needs --chroma-url")
        return self

    @model_validator(mode="after")
    def _picture_fits_message(self) -> Self:
        if self.max_image_bytes >= self.max_message_bytes:
            raise ValueError("max_image_bytes must be smaller than max_message_bytes, which carries the picture")
        return self
