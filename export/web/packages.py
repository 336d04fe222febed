"""Third-party code of the page: installed by npm, never kept in the repository.

    package-lock.json -> installed_packages() -> a folder with node_modules

Versions and their checksums stand in ``package-lock.json``, so `npm ci` installs the
same files everywhere; scripts of packages are never run. The folder lies in the user's
cache and is named after the lock file, so that another lock gets another folder. It
appears by a rename: who finds it finds it whole.

`VENDORED` says which files of which package the page needs, under which licence.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from export.errors import ExportError, saving

HERE = Path(__file__).parent
#: Seconds that npm may take.
INSTALL_TIMEOUT = 300.0


@dataclass(frozen=True)
class Vendored:
    """Files of a package that the page needs.

    Attributes:
        package: Its name in the registry.
        licence: SPDX identifier.
        source: Where its source is.
        files: Path in the package -> path below ``vendor/``.
        replaced: Pieces of text in `.js` files that are replaced, old -> new. The page
            has no step that would resolve names of packages.
        licence_file: Its licence in the package; None: the one of this project, which
            is under the same.
    """

    package: str
    licence: str
    source: str
    files: dict[str, str]
    replaced: dict[str, str]
    licence_file: str | None = None


_LITERT = "https://github.com/google-ai-edge/LiteRT"
_WASM = ("", "_compat", "_jspi", "_threaded")
VENDORED = (
    Vendored(
        "@litertjs/core",
        "Apache-2.0",
        _LITERT,
        {"dist/index.js": "litert/index.js"}
        | {
            f"wasm/litert_wasm{kind}_internal.{end}": (
                f"litert/wasm/litert_wasm{kind}_internal.{end}"
            )
            for kind in _WASM
            for end in ("js", "wasm")
        },
        {'"@litertjs/wasm-utils"': '"./wasm-utils.js"'},
    ),
    Vendored(
        "@litertjs/wasm-utils",
        "Apache-2.0",
        _LITERT,
        {"dist/index.js": "litert/wasm-utils.js"},
        {},
    ),
    Vendored(
        "mediabunny",
        "MPL-2.0",
        "https://github.com/Vanilagy/mediabunny",
        {"dist/bundles/mediabunny.min.mjs": "mediabunny/mediabunny.js"},
        {},
        "LICENSE",
    ),
)


def installed_packages() -> Path:
    """The folder that holds ``node_modules``; installs it at the first call.

    Raises:
        ExportError: If npm is missing, fails or takes too long.
    """
    lock = (HERE / "package-lock.json").read_bytes()
    name = f"web-{hashlib.sha256(lock).hexdigest()[:16]}"
    folder = _cache() / "keras_megan" / name
    if folder.is_dir():
        return folder
    with saving(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            for file in ("package.json", "package-lock.json"):
                shutil.copy(HERE / file, made)
            _npm_ci(made)
            try:
                os.rename(made, folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster
                    raise
            Path(made).mkdir(exist_ok=True)  # for the clean-up that follows
    return folder


def version(packages: Path, package: str) -> str:
    """The installed version of a package."""
    text = (packages / "node_modules" / package / "package.json").read_text("utf-8")
    return json.loads(text)["version"]


def copy_vendored(packages: Path, folder: Path) -> None:
    """Copies what the page needs, its licences, and a list of both.

    Args:
        packages: From `installed_packages`.
        folder: The page's ``vendor``.
    """
    listed = [
        "Third-party code in this folder. It is served as the packages hold it, except",
        "where a line says what was replaced.",
        "",
    ]
    for entry in VENDORED:
        source = packages / "node_modules" / entry.package
        for inside, outside in entry.files.items():
            target = folder / outside
            target.parent.mkdir(parents=True, exist_ok=True)
            if inside.endswith("js") and entry.replaced:
                target.write_text(_replaced(source / inside, entry), "utf-8")
            else:
                shutil.copyfile(source / inside, target)
        licence = folder / f"LICENSE-{entry.package.replace('/', '-').strip('@')}.txt"
        project = HERE.parents[1] / "LICENSE"
        shutil.copyfile(
            source / entry.licence_file if entry.licence_file else project, licence
        )
        listed += [
            f"{entry.package} {version(packages, entry.package)}",
            f"    licence   {entry.licence}, in {licence.name}",
            f"    source    {entry.source}",
            f"    package   https://www.npmjs.com/package/{entry.package}",
        ]
        listed += [f"    replaced  {a} by {b}" for a, b in entry.replaced.items()]
        listed.append("")
    (folder / "LICENCES.txt").write_text("\n".join(listed), "utf-8")


def _replaced(path: Path, entry: Vendored) -> str:
    text = path.read_text("utf-8")
    for old, new in entry.replaced.items():
        text = text.replace(old, new)
    # Source maps are not served.
    lines = [line for line in text.splitlines() if "sourceMappingURL" not in line]
    return "\n".join(lines) + "\n"


def _npm_ci(folder: str) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise ExportError(
            "The web page needs npm to fetch LiteRT.js and mediabunny: install Node.js "
            "18 or newer with npm (Debian: apt-get install npm)."
        )
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(
            f"npm did not finish within {INSTALL_TIMEOUT:g} seconds; check the network "
            "and start again."
        ) from error
    if done.returncode:
        text = " ".join(done.stderr.split())
        raise ExportError(f"npm could not install the page's packages: {text[-400:]}")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
