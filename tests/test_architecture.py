"""The shape of the house: floors, vendors, sizes, and what an import costs."""

import ast
import datetime
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from flux_endpoint import __version__

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "flux_endpoint"
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "models" not in path.relative_to(PACKAGE).parts)

FOLDERS = ("benchmarks", "deploy", "docs", "examples", "src", "tests", "training")
LOWER_FLOORS = {"core", "stores", "service", "images", "outbound"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

OTHER_READERS_OF_THE_ENVIRONMENT = {
    "wiring/fleet.py": "hands it on to the workers that it starts",
    "fleet/ray_host.py": "hands that of its machine on to the worker that it starts there",
    "wiring/tracing.py": "heeds the variables that name a collector to every program of OpenTelemetry's",
    "wiring/loras.py": "heeds the variables that tell every program of the hub's where that is, and who asks",
    "wiring/threads.py": "sets what PyTorch will read, unless it is set",
    "engine/kernels.py": "other libraries' settings are a part of what the bytes of a picture depend on",
}

# What each process must do without: it costs seconds of start, or is not installed beside it.
GATEWAY_STRANGERS = {
    "torch",
    "diffusers",
    "transformers",
    "safetensors",
    "numpy",
    "fastapi",
    "flask",
    "ray",
    "opentelemetry",
}
WORKER_STRANGERS = {"starlette", "uvicorn", "sqlalchemy", "alembic", "obstore", "ray", "opentelemetry"}


def python_files():
    for folder in FOLDERS:
        for place, below, names in os.walk(ROOT / folder):
            below[:] = {*below} - {"node_modules"}
            yield from (Path(place) / name for name in names if name.endswith(".py"))


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def loaded_by(code):
    """The top-level modules that a fresh interpreter has loaded after some code."""
    listing = "; import sys; print(' '.join({name.partition('.')[0] for name in sys.modules}))"
    process = subprocess.run(
        [sys.executable, "-c", code + listing], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(process.stdout.splitlines()[-1].split())


def test_imports_go_down_only():
    process = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], capture_output=True, text=True, cwd=ROOT
    )
    assert process.returncode == 0, process.stdout + process.stderr


def test_files_and_functions_stay_small():
    long = []
    for path in python_files():
        text, name = path.read_text(), path.relative_to(ROOT).as_posix()
        if (lines := len(text.splitlines())) > MAX_FILE_LINES:
            long.append(f"{name} has {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                long += [f"{node.name} in {name} has {lines} lines"] if lines > MAX_FUNCTION_LINES else []
    assert long == []


def test_only_settings_read_the_environment():
    readers = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.attr] if isinstance(node, ast.Attribute) else []
            names += [name.name for name in node.names] if isinstance(node, ast.ImportFrom) else []
            if {"environ", "environb", "getenv", "getenvb"} & set(names):
                readers.add(path.relative_to(PACKAGE).as_posix())
    assert readers == {"settings/reader.py", *OTHER_READERS_OF_THE_ENVIRONMENT}


@pytest.mark.parametrize(
    ("start", "strangers"),
    [
        ("import flux_endpoint.commands.app", GATEWAY_STRANGERS | WORKER_STRANGERS | {"aiohttp", "jsonschema_rs"}),
        ("import flux_endpoint.wiring.gateway", GATEWAY_STRANGERS | {"alembic", "aiohttp"}),
        ("import flux_endpoint.stores.connect", GATEWAY_STRANGERS | {"starlette", "uvicorn", "obstore", "aiohttp"}),
        ("import flux_endpoint.worker.process", GATEWAY_STRANGERS | WORKER_STRANGERS),
    ],
    ids=["commands", "gateway", "admin", "worker"],
)
def test_each_process_loads_its_own_part_only(start, strangers):
    assert not loaded_by(start) & strangers


def test_only_a_start_with_old_tables_loads_alembic(tmp_path):
    start = f"""
import asyncio
from flux_endpoint.core.clock import SystemClock
from flux_endpoint.stores.connect import open_stores
async def start():
    await (await open_stores("sqlite:///{tmp_path}/jobs.db", SystemClock())).close()
asyncio.run(start())"""
    assert "alembic" in loaded_by(start)
    assert "alembic" not in loaded_by(start)


def test_a_docstring_sends_the_reader_to_the_protocol_of_its_method_only():
    """ "See `X.name`" saves words where X is the protocol that the method belongs to; elsewhere it hides them."""
    trees = {path: ast.parse(path.read_text()) for path in SOURCES}
    methods = {}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base).startswith("Protocol") for base in node.bases):
                methods[node.name] = {item.name for item in node.body if hasattr(item, "name")}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                said = re.match(r"See (\S+)", ast.get_docstring(node) or "")
                protocol, _, name = said[1].strip("`.;:").partition(".") if said else ("", "", "")
                is_its_protocol = name == node.name and name in methods.get(protocol, ())
                assert not said or is_its_protocol, f"{path}: {node.name} says {said[0]}"


def test_a_worker_with_the_fake_engine_never_needs_torch():
    code = (
        "from flux_endpoint.core.catalog import CATALOG; from flux_endpoint.engine.factory import build_engines; "
        "[engine.load() for engine in build_engines({name: 'fake' for name in CATALOG}, CATALOG).values()]"
    )
    assert not loaded_by(code) & GATEWAY_STRANGERS


def test_importing_everything_does_nothing(tmp_path):
    """No thread, no file, no output, no logging set up, no change of the environment."""
    modules = [module_of(path) for path in SOURCES if "migrations" not in path.parts and path.stem != "__main__"]
    code = f"""
import importlib, logging, os, threading, warnings
warnings.simplefilter("ignore")
before = dict(os.environ)
for name in {modules!r}:
    importlib.import_module(name)
ours = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
assert not ours, ours
assert not logging.getLogger("flux_endpoint").handlers
assert logging.getLogger("flux_endpoint").level == logging.NOTSET
ours = {{name: value for name, value in os.environ.items() if name.startswith("FLUX")}}
assert ours.items() <= before.items(), ours
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stdout == ""
    assert list(tmp_path.iterdir()) == []


WIRE_NAMES = re.compile(r"s3Config|accessId|endpointUrl|stopPod|lowPriority|executionTimeout|jobsToStop|sync-")


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.relative_to(PACKAGE).parts[0] in LOWER_FLOORS], ids=module_of
)
def test_what_one_dialect_says_is_said_in_its_folder_only(path):
    # A migration tells of what databases in the field hold.
    if "migrations" not in path.parts:
        assert not WIRE_NAMES.findall(path.read_text())


# Who names a picture format beside the table (core/image_formats.py) and the encoders (engine/encode.py), and what of.
NAMES_FORMATS = {
    "core/image_formats.py": "the table",
    "core/marks.py": "chunks of PNG, the only format without EXIF",
    "core/inputs.py": "the format of Kontext unless asked otherwise",
    "engine/png.py": "what PNG is made of",
    "engine/encode.py": "the encoders",
    "engine/credentials.py": "a sample that is signed to try a certificate",
    "engine/fake.py": "PNG and JPEG made by hand, so that a gateway needs no Pillow",
    "engine/preview.py": "previews, whatever the picture's format",
    "worker/progress.py": "previews",
    "api/dialects/runpod/job_schemas.py": "previews, in an example",
    "api/dialects/openai/requests.py": "the format of OpenAI's pictures unless asked otherwise",
    "api/dialects/huggingface/dialect.py": "the format unless asked otherwise",
    "api/dialects/replicate/predictions.py": "the format unless asked otherwise",
    "api/dialects/bfl/dialect.py": "the format unless asked otherwise",
    "api/dialects/fal/requests.py": "the format unless asked otherwise",
    "api/dialects/mcp/pictures.py": "the format unless asked otherwise",
    "api/dialects/mcp/tools.py": "the same, as agents are told of it",
    "api/dialects/a1111/requests.py": "the format of all pictures",
    "api/dialects/a1111/catalogue.py": "the format of all pictures",
    "api/dialects/a1111/dialect.py": "png-info, an operation",
    "commands/generate.py": "the name of the file that a command writes unless told otherwise",
    "api/playground/animation.js": "the parts of WebP, which the browser writes still pictures of only",
    "api/playground/history.js": "thumbnails",
    "api/playground/metadata.js": "chunks of PNG, the only format whose parameters are not in EXIF",
}
FORMAT_NAME = re.compile(r"\b(jpe?g|png|webp)\b", re.IGNORECASE)


def words_of_python(text):
    """Names, and texts but for docstrings."""
    tree = ast.parse(text)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() | bytes() as value) if id(node) not in docstrings:
                yield value if isinstance(value, str) else value.decode("latin-1")
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                yield name


def test_a_picture_format_is_one_row_and_one_encoder():
    pages = [path for ending in ("js", "html", "css") for path in PACKAGE.rglob(f"*.{ending}")]
    words = {path: words_of_python(path.read_text()) for path in SOURCES}
    words |= {path: (line.partition("//")[0] for line in path.read_text().splitlines()) for path in pages}
    named = {str(path.relative_to(PACKAGE)) for path in words if any(FORMAT_NAME.search(word) for word in words[path])}
    assert named == set(NAMES_FORMATS)


def test_nobody_asks_which_kind_an_endpoint_is():
    """Endpoints describe themselves and present their jobs: above `core/endpoint.py` there is `EndpointSpec` only."""
    above = [path for path in SOURCES if path.relative_to(PACKAGE).parts[0] in ("api", "service", "stores", "worker")]
    knowing = {
        str(path.relative_to(PACKAGE)) for path in above if re.search(r"\b(Flux|Custom)Endpoint\b", path.read_text())
    }
    assert knowing == {"service/custom.py"}


def test_every_verb_of_the_makefile_is_explained():
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE).group(1).split()
    explained = re.findall(r"^([a-z-]+):.*## \S", text, re.MULTILINE)
    assert sorted(phony) == sorted(explained)
    process = subprocess.run(["make", "help"], capture_output=True, text=True, check=True, cwd=ROOT)
    for verb in phony:
        assert f"make {verb} " in process.stdout


def test_the_pinned_versions_are_versions_only():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9.-]+==[0-9][A-Za-z0-9.]*", line), line


def test_the_pinned_versions_cover_what_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for name, lines in extras.items() if name != "ray" for line in lines)]
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    names = {re.match(r"[A-Za-z0-9._-]+", line).group().lower().replace("_", "-") for line in wanted}
    assert names <= pinned


def test_the_newest_release_of_the_changelog_is_the_version_of_the_package():
    first, *releases = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first == "Unreleased"
    version, date = releases[0].split(" - ")
    assert version == __version__
    assert datetime.date.fromisoformat(date)


def test_the_table_of_what_to_open_names_files_that_are_there():
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## To change X")[2].partition("\n## ")[0]
    names = [name for name in re.findall(r"`([\w./-]+)`", table) if "/" in name and not name.startswith("/")]
    assert names
    assert [name for name in names if not ((PACKAGE / name).exists() or (ROOT / name).exists())] == []


def test_what_supersedes_a_decision_is_named_there_and_the_other_way_round():
    newer, older = set(), set()
    for page in (ROOT / "docs" / "decisions").glob("*.md"):
        for line in page.read_text().splitlines():
            others = re.findall(r"\((\d{4})-[\w-]+\.md\)", line)
            if line.startswith("Superseded"):
                older |= {(other, page.name[:4]) for other in others}
            elif line.startswith("Supersedes"):
                newer |= {(page.name[:4], other) for other in others}
    assert newer
    assert newer == older


def test_every_folder_and_class_is_named_after_a_word_of_the_glossary():
    def singular(word):
        ends = (("ies", "y"), ("ches", "ch"), ("ss", "ss"), ("s", ""))
        return next((word.removesuffix(end) + other for end, other in ends if word.endswith(end)), word)

    def is_error(name):
        # Named after what went wrong; docs/reference/errors.md explains it.
        return name == "Exception" or any(map(is_error, bases.get(name, ())))

    nodes = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))]
    bases = {node.name: [ast.unparse(base) for base in node.bases] for node in nodes if isinstance(node, ast.ClassDef)}
    public = [name for name in bases if not name.startswith("_") and not is_error(name)]
    # The noun stands last: a WorkerRegistry is a registry.
    named = {re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", name)[-1].lower() for name in public}
    named |= {folder for path in SOURCES for folder in path.relative_to(PACKAGE).parts[:-1]}
    cells = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    words = {singular(word) for cell in cells for word in re.findall(r"[a-z][a-z0-9]*", cell.lower())}
    assert [noun for noun in sorted(named) if singular(noun) not in words] == []
