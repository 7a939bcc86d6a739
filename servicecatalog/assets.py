"""Everything that is uploaded before a stack is made: code, template archive, product.yaml, the stacks' templates.

Each is named by its contents, so that uploading twice changes nothing and an older stack keeps what it was made from.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from servicecatalog import archive, bucket, product, studio, template_archive
from servicecatalog.account import PORTFOLIO_TEMPLATE, TEMPLATE, Account
from servicecatalog.errors import InstallError

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Assets:
    """What one version of Modelyard is installed from.

    Args:
        version: of the template and the product: "<release>-<hash of both>".
        functions: the archive of the controller's functions.
        seed: the seed function's archive.
        template: the project template's archive.
        product: product.yaml with this installation's defaults.
        platform: platform.yaml.
        portfolio: portfolio.yaml.
    """

    version: str
    functions: bytes
    seed: bytes
    template: bytes
    product: bytes
    platform: bytes
    portfolio: bytes

    @property
    def code_objects(self) -> dict[str, bytes]:
        """Contents by key, of the code bucket."""
        return {
            self.functions_key: self.functions,
            self.seed_key: self.seed,
            self.template_key: self.template,
            self.platform_key: self.platform,
            self.portfolio_key: self.portfolio,
        }

    @property
    def functions_key(self) -> str:
        return archive.key(self.functions)

    @property
    def seed_key(self) -> str:
        return archive.seed_key(self.seed)

    @property
    def template_key(self) -> str:
        return f"modelyard/template/{self.version}.zip"

    @property
    def platform_key(self) -> str:
        return f"modelyard/platform-{_hash(self.platform)[:16]}.yaml"

    @property
    def portfolio_key(self) -> str:
        return f"modelyard/portfolio-{_hash(self.portfolio)[:16]}.yaml"

    @property
    def product_key(self) -> str:
        """In the template bucket."""
        return f"projects/modelyard-{self.version}.yaml"


def build(product_defaults: Mapping[str, str] | None = None, product_template: Path = product.TEMPLATE) -> Assets:
    """Make all of them.

    Args:
        product_defaults: as defaults() answers them; without them those of CodeCommit.
        product_template: product.yaml.

    Raises:
        InstallError: packages, Git or a file are missing, or an archive is larger than it may be.
    """
    template = template_archive.build()
    written = product.filled(_text(product_template), product_defaults or defaults())
    version = f"{template_archive.release()}-{_hash(template + written.encode())[:12]}"
    return Assets(
        version=version,
        functions=archive.functions(),
        seed=archive.seed(),
        template=template,
        product=product.with_default(written, "TemplateVersion", version).encode(),
        platform=TEMPLATE.read_bytes(),
        portfolio=PORTFOLIO_TEMPLATE.read_bytes(),
    )


def defaults(git_host: str = "", git_owner: str = "") -> dict[str, str]:
    """What product.yaml's parameters offer first, of what the platform was given; "" is not given.

    All of them are always written, so that the same platform gives the same version however it was said.
    """
    return {"GitHost": git_host or "codecommit", "GitOwner": git_owner or "none"}


def write(assets: Assets, folder: Path) -> None:
    """Write them as files, with manifest.json, for who installs without this command.

    manifest.json: {"version", "code": {file: key in the code bucket}, "templates": {file: key in the template bucket},
    "parameters": {"platform": {...}, "portfolio": {...}} of the two stacks, "builder": {"python", "checkout"}: what can
    upload all this, with `python -m servicecatalog upload`}.
    """
    code = {
        "functions.zip": (assets.functions_key, assets.functions),
        "seed.zip": (assets.seed_key, assets.seed),
        "template.zip": (assets.template_key, assets.template),
        "platform.yaml": (assets.platform_key, assets.platform),
        "portfolio.yaml": (assets.portfolio_key, assets.portfolio),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, contents) in code.items():
        (folder / name).write_bytes(contents)
    (folder / "product.yaml").write_bytes(assets.product)
    manifest = {
        "version": assets.version,
        "code": {name: key for name, (key, _) in code.items()},
        "templates": {"product.yaml": assets.product_key},
        "parameters": {
            "platform": {"CodeKey": assets.functions_key, "SeedCodeKey": assets.seed_key},
            "portfolio": {"TemplateVersion": assets.version, "ProductKey": assets.product_key},
        },
        "builder": {"python": sys.executable, "checkout": str(CHECKOUT)},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def upload(account: Account, folder: Path, kind: Literal["code", "templates"], name: str) -> list[str]:
    """Upload what `write` has written; what is there stays as it is. The keys that were not there.

    Args:
        kind: of the manifest: what goes to the code bucket or to the template bucket. Studio does not list a template
            until `show`.
        name: the bucket's.

    Raises:
        InstallError: the folder holds no manifest, or the bucket is missing or another account's.
    """
    keys = _manifest(folder)[kind]
    if not bucket.exists(account, name):
        raise InstallError(f"there is no bucket {name} in account {account.number}")
    tags = studio.HIDDEN if kind == "templates" else None
    return [key for file, key in keys.items() if bucket.upload(account, name, key, (folder / file).read_bytes(), tags)]


def show(account: Account, folder: Path, name: str) -> bool:
    """Let Studio list the template of this version, and no other of ours in the bucket. False: it was so.

    Raises:
        InstallError: the folder holds no manifest.
    """
    return studio.show_only(account, name, _manifest(folder)["templates"]["product.yaml"])


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "manifest.json").read_text())
    except OSError as error:
        raise InstallError(
            f"{folder / 'manifest.json'} cannot be read ({error.strerror}): "
            f"make it with python -m servicecatalog build {folder}"
        ) from error


def _hash(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise InstallError(
            f"{path} cannot be read ({error.strerror}): run this from a checkout of Modelyard"
        ) from error
