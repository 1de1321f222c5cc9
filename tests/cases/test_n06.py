"""N6: deployed as it is told: by any uid, on a read-only root, and no file of deploy/ names what is not there."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from reflexio_server.cli.health import asked
from reflexio_server.cli.main import main
from reflexio_server.config import ENVIRONMENT_PREFIX, Settings
from tests.support import LocalServer
from tests.tls_files import Files

ROOT = Path(__file__).parents[2]
FILES = {
    name: (ROOT / name).read_text(encoding="utf-8").replace("%i", "8081")  # what systemd puts in
    for name in (
        "Dockerfile",
        "deploy/compose.yaml",
        "deploy/several.yaml",
        "deploy/systemd/reflexio.service",
        "deploy/systemd/reflexio@.service",
        "deploy/systemd/reflexio-worker.service",
        "deploy/systemd/reflexio-chroma.service",
        "docs/deployment.md",
        "docs/several-machines.md",
    )
}
DOCKERFILE, COMPOSE, PAGE = FILES["Dockerfile"], FILES["deploy/compose.yaml"], FILES["docs/deployment.md"]
SEVERAL, SEVERAL_PAGE = FILES["deploy/several.yaml"], FILES["docs/several-machines.md"]
UNITS = {name: text for name, text in FILES.items() if name.endswith(".service")}
CLIENTS = {"REFLEXIO_API_URL", "REFLEXIO_CA_CERT", "REFLEXIO_CLIENT_CERT", "REFLEXIO_CLIENT_KEY"}


def probe(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`reflexio-server health` in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    command = [sys.executable, "-m", "reflexio_server", "health", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, timeout=60, check=False
    )


# ---- health


def test_health_says_serving_and_then_not(start: Callable[..., LocalServer]) -> None:
    server = start()
    port = server.address.rpartition(":")[2]
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY"), "http://127.0.0.1:9")
    for settings in ({"REFLEXIO_PORT": port}, {"REFLEXIO_PORT": port, "REFLEXIO_HOST": "0.0.0.0"}):
        served = probe(**settings, **proxies)
        assert (served.returncode, served.stdout, served.stderr) == (0, "serving\n", "")
    server.stop()
    gone = probe("--port", port)
    assert gone.returncode == 1
    assert gone.stderr.startswith(f"Error: 127.0.0.1:{port} does not serve: UNAVAILABLE")
    assert "Traceback" not in gone.stderr


def test_health_tells_of_a_server_that_starts_or_stops() -> None:
    told = HealthServicer()
    told.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(told, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        stopping = probe("--port", str(port))
    finally:
        server.stop(0)
    assert (stopping.returncode, stopping.stdout) == (1, "")
    assert "NOT_SERVING" in stopping.stderr


def test_health_over_tls_trusts_the_servers_own_certificate(start: Callable[..., LocalServer], files: Files) -> None:
    made = files.authority.issue_cert("*.store.example.com")  # no name or address of this machine
    files.key.write_bytes(made.private_key_pem.bytes())
    files.cert.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
    port = start(**files.settings).address.rpartition(":")[2]
    own = {"REFLEXIO_TLS_CERT": str(files.cert), "REFLEXIO_TLS_KEY": str(files.key), "REFLEXIO_PORT": port}
    assert probe(**own).returncode == 0
    assert probe("--port", port, "--ca-cert", files.ca).returncode == 0
    for wrong in (("--port", port), ("--port", port, "--ca-cert", files.key)):
        failed = probe(*wrong)
        assert failed.returncode == 1
        assert "does not serve" in failed.stderr


def test_health_ends_in_time_where_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        failed = probe("--port", str(silent.getsockname()[1]), "--timeout", "0.5")
        assert failed.returncode == 1
        assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    "arguments",
    [("--port", "x"), ("--port", "0"), ("--timeout", "0"), ("--timeout", "nan"), ("--client-cert", __file__), ("now",)],
)
def test_health_tells_wrong_flags_from_a_server_that_is_not_there(arguments: tuple[str, ...]) -> None:
    assert probe(*arguments).returncode == 2


@pytest.mark.parametrize(
    ("host", "where"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("[::]", "::1"), ("::ffff:0:0", "::ffff:0:0")]
    + [(same, same) for same in ("127.0.0.1", "localhost", "10.1.2.3", "store.example.com")],
)
def test_health_asks_this_machine_where_the_server_listens_everywhere(host: str, where: str) -> None:
    assert asked(host) == where


def test_health_loads_neither_the_store_nor_the_model() -> None:
    code = """if True:
        import sys
        from reflexio_server.__main__ import main
        sys.argv = ["reflexio-server", "health", "--port", "1"]
        try: main()
        except SystemExit: pass
        print(*sorted({name.partition(".")[0] for name in sys.modules}))"""
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "grpc" in loaded.split()
    assert not {"chromadb", "onnxruntime", "numpy", "sqlalchemy", "reflexio", "google"} & set(loaded.split())


# ---- what is written down


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words after `reflexio-server` name, and the words after it."""
    group: click.Command = main
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        group, words = group.commands[words[0]], words[1:]
    return group, words


def assert_understood(words: list[str]) -> None:
    """The program has this command with these flags and values."""
    command, arguments = command_of(words)
    assert not isinstance(command, click.Group), words
    for name in (variable for variable in os.environ if variable.startswith(ENVIRONMENT_PREFIX)):
        pytest.fail(f"{name} is set")
    known = {flag: option for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    for word in arguments:
        assert not word.startswith("--") or word.partition("=")[0] in known, words
    above = click.Context(main, help_option_names=main.context_settings["help_option_names"])
    command.make_context("reflexio-server", list(arguments), parent=above)  # a command remembers the help it once had


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]:
        monkeypatch.delenv(name)


def manifest() -> dict[str, Any]:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    loaded: dict[str, Any] = yaml.safe_load(block)
    return loaded


def blocks() -> list[Any]:
    """The documents of the page on several machines: Kubernetes' and Envoy's."""
    found = re.findall(r"^```yaml\n(.*?)^```$", SEVERAL_PAGE, re.MULTILINE | re.DOTALL)
    return [document for block in found for document in yaml.safe_load_all(block)]


def containers() -> Iterator[dict[str, Any]]:
    """Those of the page's pods."""
    for document in blocks():
        if document.get("kind") in ("Job", "Deployment"):
            yield from document["spec"]["template"]["spec"]["containers"]


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = (document["spec"] for document in blocks() if document.get("kind") == kind)
    return found  # type: ignore[no-any-return]


def commands() -> Iterator[list[str]]:
    """Every command line of the program in these files, without `reflexio-server`."""
    compose = yaml.safe_load(COMPOSE)["services"]["reflexio"]
    pod = manifest()["spec"]["template"]["spec"]["containers"][0]
    yield re.findall(r'"([^"]+)"', DOCKERFILE.rpartition("\nCMD ")[2])
    yield compose["command"]
    yield compose["healthcheck"]["test"][2:]
    yield pod["args"]
    yield pod["startupProbe"]["exec"]["command"][1:]
    for service in yaml.safe_load(SEVERAL)["services"].values():
        if service["image"] == "reflexio-grpc":
            yield service["command"]
    for container in containers():
        yield container["args"]
    for text in FILES.values():
        for found in re.findall(r"(?:^|[ =`/])reflexio-server ([a-z][^\n`\\<&|;]*)", text, re.MULTILINE):
            yield shlex.split(found, comments=True)


def test_every_command_and_flag_is_the_programs() -> None:
    found = list(commands())
    named = {words[0] for words in found}
    assert named >= {"serve", "health", "model", "accounts", "backup", "restore", "migrate", "worker"}
    for words in found:
        assert_understood(words)
    flags = {option.opts[0] for command in main.commands.values() for option in command.params}
    for flag in re.findall(r"`(--[a-z-]+)`", PAGE + SEVERAL_PAGE):
        assert flag in flags, flag


def test_every_variable_is_a_setting() -> None:
    settings = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields} | CLIENTS
    for text in FILES.values():
        for name in re.findall(r"\bREFLEXIO_[A-Z_]*[A-Z]\b", text):
            assert name in settings, name


def test_every_file_that_is_copied_is_there_and_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored, "all but what is named is left out"
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
            assert name in allowed or (name.startswith("deploy/") and "deploy/*.lock" in allowed), name
    for name in FILES:
        assert Path(name).name in PAGE + SEVERAL_PAGE or name.startswith("docs/")


def test_the_image_is_held_to_hashes_and_runs_as_nobody() -> None:
    installs = re.findall(r"pip[^\n&|]* install ([^\n\\&]*)", DOCKERFILE)
    assert installs
    for install in installs:
        assert "--no-deps" in install, install
        assert "--require-hashes" in install or install.endswith("dist/*.whl"), install
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    assert re.search(r"^VOLUME /data$", last, re.MULTILINE)
    assert 'CMD ["reflexio-server", "health"]' in last


def test_the_images_versions_are_those_that_are_tested() -> None:
    def versions(name: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9._-]+==[^ \n]+)", (ROOT / name).read_text(), re.MULTILINE))

    tested = versions("requirements.lock")
    for name in ("deploy/server.lock", "deploy/build.lock"):
        assert versions(name) <= tested, name
    needed = (ROOT / "pyproject.toml").read_text().partition("server = [")[2].partition("]")[0]
    installed = {one.partition("==")[0] for one in versions("deploy/server.lock")}
    assert set(re.findall(r'"([a-z0-9-]+)', needed)) <= installed


def grace(words: list[str]) -> float:
    return float(words[words.index("--grace-seconds") + 1])


def test_there_is_more_time_to_stop_than_the_calls_in_flight_get() -> None:
    services = [yaml.safe_load(COMPOSE)["services"]["reflexio"], yaml.safe_load(SEVERAL)["services"]["api"]]
    pods = [manifest()["spec"]["template"]["spec"], of_kind("Deployment")["template"]["spec"]]
    for service in services:
        assert int(service["stop_grace_period"].rstrip("s")) > grace(service["command"])
    for pod in pods:
        (container,) = pod["containers"]
        before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod["terminationGracePeriodSeconds"] > before + grace(container["args"])
    for name, text in UNITS.items():
        unit = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
        words = shlex.split(unit["ExecStart"])
        assert int(unit["TimeoutStopSec"]) > (grace(words) if "serve" in words else Settings().grace_seconds), name
        assert unit["KillSignal"] == "SIGTERM"


# ---- several machines


def test_of_several_only_the_servers_can_be_reached() -> None:
    compose = yaml.safe_load(SEVERAL)
    services = compose["services"]
    assert compose["networks"]["inner"] == {"internal": True}
    assert [name for name, service in services.items() if "ports" in service] == ["api"]
    assert [name for name, service in services.items() if service["networks"] != ["inner"]] == ["api"]
    first, last = map(int, services["api"]["ports"][0].partition(":")[0].split("-"))
    assert last - first + 1 == services["api"]["deploy"]["replicas"] > 1


def test_of_several_no_password_is_in_a_variable() -> None:
    compose = yaml.safe_load(SEVERAL)
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or name.endswith("_FILE"), name
            assert not name.endswith("_FILE") or Path(value).name in service["secrets"]
    for container in containers():
        given = {variable["name"]: variable["value"] for variable in container["env"]}
        assert given["REFLEXIO_DATABASE_URL_FILE"].startswith("/secrets/")


def test_of_several_all_is_of_known_versions_and_the_schema_is_there_first() -> None:
    services = yaml.safe_load(SEVERAL)["services"]
    (chroma,) = re.findall(r"^chromadb==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert services["chroma"]["image"] == f"chromadb/chroma:{chroma}"
    assert re.fullmatch(r"postgres:\d+\.\d+", services["postgres"]["image"])
    for name in ("api", "worker"):
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
        assert services[name]["environment"]["REFLEXIO_CHROMA_URL"] == "http://chroma:8000"
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_the_connections_of_all_are_fewer_than_the_database_takes() -> None:
    services = yaml.safe_load(SEVERAL)["services"]
    (most,) = re.findall(r"max_connections=(\d+)", " ".join(services["postgres"]["command"]))
    processes = services["api"]["deploy"]["replicas"] + 1
    each = Settings.model_fields["database_connections"].default
    assert processes * each + 10 <= int(most)
    assert f"`--database-connections` ({each})" in SEVERAL_PAGE


def test_kubernetes_names_each_pod_that_is_ready() -> None:
    service, deployment = of_kind("Service"), of_kind("Deployment")
    assert service["clusterIP"] == "None"
    assert service["selector"] == deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]
    assert "publishNotReadyAddresses" not in service
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["readinessProbe"]["exec"]["command"] == ["reflexio-server", "health"]
    assert "--max-connection-age-seconds" in container["args"]
    assert service["ports"][0]["port"] == container["ports"][0]["containerPort"] == 8081
    for pod in (deployment["template"]["spec"], of_kind("Job")["template"]["spec"]):
        assert pod["enableServiceLinks"] is False
        mounted = {mount["name"] for one in pod["containers"] for mount in one["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_envoy_balances_calls_and_looks_at_health() -> None:
    (envoy,) = (document["static_resources"] for document in blocks() if "static_resources" in document)
    (cluster,), (listener,) = envoy["clusters"], envoy["listeners"]
    (protocol,) = cluster["typed_extension_protocol_options"].values()
    assert "http2_protocol_options" in protocol["explicit_http_config"]
    assert cluster["lb_policy"] in ("ROUND_ROBIN", "LEAST_REQUEST")
    assert cluster["health_checks"][0]["grpc_health_check"] == {}, "the empty name"
    (chain,) = listener["filter_chains"]
    tls = chain["transport_socket"]["typed_config"]["common_tls_context"]
    assert tls["alpn_protocols"] == ["h2"]
    manager = chain["filters"][0]["typed_config"]
    assert float(manager["stream_idle_timeout"].rstrip("s")) > Settings().stream_idle_seconds
    (route,) = manager["route_config"]["virtual_hosts"][0]["routes"]
    assert route["route"] == {"cluster": cluster["name"], "timeout": "0s"}


# ---- the entry command, as a container runs it


@pytest.fixture
def namespace(tmp_path: Path) -> Path:
    """A folder for data that an unknown uid can reach; skips where no namespace can be made."""
    made = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount --make-rprivate / && mount -o remount,bind,ro /"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode or os.getuid() != 0:
        why = f"no mount namespace with a read-only root can be made here: {made.stderr.strip()}"
        if "REFLEXIO_TEST_ALL" in os.environ:
            pytest.fail(why)
        pytest.skip(why)
    return tmp_path


READ_ONLY = """
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=0700,uid=12345,gid=12345 none "$1"
mount -o remount,bind,ro /
for other in /tmp /var /home /root /run /work /dev/shm; do
    if mountpoint -q "$other"; then mount -o remount,bind,ro "$other" 2> /dev/null || true; fi
done
if touch /cannot-be-made 2> /dev/null; then echo "the root can be written" >&2; exit 9; fi
shift
exec setpriv --reuid 12345 --regid 12345 --clear-groups --no-new-privs "$@"
"""


def test_the_entry_command_runs_by_an_unknown_uid_on_a_read_only_root(namespace: Path, model_dir: Path) -> None:
    data, model = Path(tempfile.mkdtemp(prefix="reflexio-data-")), Path(tempfile.mkdtemp(prefix="reflexio-model-"))
    model.chmod(0o755)
    for file in model_dir.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
        (model / file.name).chmod(0o644)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    variables = dict(re.findall(r"(REFLEXIO_\w+)=(\S+)", DOCKERFILE.rpartition("\nFROM ")[2]))
    variables |= {"REFLEXIO_DATA_DIR": str(data), "REFLEXIO_MODEL_DIR": str(model), "REFLEXIO_PORT": port}
    variables |= {"REFLEXIO_INSECURE": "true", "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}
    program = [sys.executable, "-P", "-m", "reflexio_server"]
    if subprocess.run(
        ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", *program, "--version"],
        capture_output=True,
        check=False,
        cwd="/",
    ).returncode:
        pytest.skip("another uid may not read this interpreter or checkout, as it may in the image")
    server = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(data), *program, "serve"],
        env=variables,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        asking = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", *program, "health"]
        deadline = time.monotonic() + 90
        while True:
            asked = subprocess.run(asking, env=variables, cwd="/", capture_output=True, text=True, check=False)
            if asked.returncode == 0 or server.poll() is not None or time.monotonic() > deadline:
                break
        assert server.poll() is None, server.communicate()[0]
        assert (asked.returncode, asked.stdout, asked.stderr) == (0, "serving\n", "")
        server.send_signal(signal.SIGTERM)
        output, _ = server.communicate(timeout=60)
        assert server.returncode == 0, output
        assert "Traceback" not in output
    finally:
        server.kill()
        server.wait()
        subprocess.run(["rm", "-rf", str(data), str(model)], check=True)
