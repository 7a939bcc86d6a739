"""Makes the new folder a git repository: branch prod with one commit, dev from it, dev checked out.

Writes .cruft.json too, by which `cruft update` later finds this template: the same bytes as cruft itself writes.
Standard library and git only, no network. Cookiecutter renders this file and runs it in the generated folder.
"""

import json
import os
import subprocess
import sys

# Key and value pairs in cookiecutter's own order, which tojson of the whole would sort; see pre_gen_project.py.
CONTEXT = dict(json.loads(r'''{{ cookiecutter.items() | list | tojson }}'''))
PROJECT = CONTEXT["project"]
FALLBACK_AUTHOR = ("Modelyard", "modelyard@localhost")

# Variables by which a git command that is running right now (a hook, a rebase) would lead ours to its repository.
REPOSITORY_VARIABLES = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_TEMPLATE_DIR",
)  # fmt: skip
# The user's git configuration must not stop, sign, or leave anything out of the first commit.
SETTINGS = (
    "-c", "commit.gpgSign=false", "-c", "core.hooksPath=/dev/null", "-c", "core.excludesFile=/dev/null",
    "-c", "core.attributesFile=/dev/null", "-c", "core.autocrlf=false", "-c", "core.safecrlf=false",
)  # fmt: skip


# The folders of CI files, which are there and empty in a repository for another Git host.
CI_FOLDERS = (os.path.join(".github", "workflows"), ".github")


def git(*arguments, folder=".", check=True):
    """Runs git and returns its output without the last line end; "" when it fails and check is False."""
    environment = {name: value for name, value in os.environ.items() if name not in REPOSITORY_VARIABLES}
    # the Git hosts take no other format, whatever is this person's default, or a later git's
    environment["GIT_DEFAULT_HASH"] = "sha1"
    done = subprocess.run(
        ["git", *SETTINGS, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    if done.returncode and check:
        sys.exit("git %s failed: %s" % (" ".join(arguments), done.stderr.decode(errors="replace").strip()))
    return "" if done.returncode else done.stdout.decode().strip()


def template_folder():
    """Where the template lies. A relative address (`cookiecutter .`) began where cookiecutter was called, not here."""
    folder = CONTEXT["_repo_dir"]
    if os.path.isabs(folder):
        return folder
    # cookiecutter, which started this script, stands in the template meanwhile; where that cannot be asked, the shell
    # has told where it stood
    for found in ("/proc/%d/cwd" % os.getppid(), os.path.join(os.environ.get("PWD", ""), folder)):
        if os.path.isfile(os.path.join(found, "cookiecutter.json")):
            return os.path.realpath(found)
    return folder


def cruft_state():
    """What .cruft.json must hold, or the reason why it cannot be known."""
    answers = {key: value for key, value in CONTEXT.items() if key not in ("_output_dir", "_repo_dir", "_checkout")}
    if "_commit" in CONTEXT:  # cruft itself runs this
        return state(CONTEXT["_template"], CONTEXT["_commit"], None, answers, None), None
    folder = template_folder()
    if not git("ls-files", "cookiecutter.json", folder=folder, check=False):
        return None, "the template %s is not a git repository" % CONTEXT["_template"]
    commit = git("rev-parse", "--verify", "HEAD", folder=folder, check=False)
    if not commit:
        return None, "the template %s has no commit" % CONTEXT["_template"]
    below = git("rev-parse", "--show-prefix", folder=folder).strip("/") or None
    if os.path.isdir(CONTEXT["_template"]) or not os.path.isabs(CONTEXT["_repo_dir"]):
        template = git("rev-parse", "--show-toplevel", folder=folder)
    else:
        # cookiecutter's abbreviations (gh:owner/name) mean nothing to cruft: the clone knows the whole address
        template = git("remote", "get-url", "origin", folder=folder)
    answers["_template"], answers["_commit"] = template, commit
    return state(template, commit, CONTEXT["_checkout"], answers, below), None


def state(template, commit, checkout, answers, directory):
    return {
        "template": template,
        "commit": commit,
        "checkout": checkout,
        "context": {"cookiecutter": answers},
        "directory": directory,
    }


def write_cruft_state():
    known, reason = cruft_state()
    if known is None:
        print("No .cruft.json was written: %s. Without it, `cruft update` cannot bring later versions here." % reason)
        return
    with open(".cruft.json", "w", encoding="utf-8", newline="\n") as stream:
        stream.write(json.dumps(known, ensure_ascii=False, indent=2, separators=(",", ": ")) + "\n")
    template = known["template"]
    if os.path.isdir(template) or template.startswith("file:"):
        print(
            ".cruft.json names the template by a folder of this machine (%s), which CI does not have: to be offered "
            "its later versions, make template there the value of the SSM parameter /modelyard/template/url, and "
            "commit that of /modelyard/template/commit." % template
        )


def make_repository():
    git("init", "--quiet", "--template=", ".")
    # not `git init --initial-branch`, which git before 2.28 does not know
    git("symbolic-ref", "HEAD", "refs/heads/prod")
    git("add", "--all", ".")
    author = []
    for key, fallback in zip(("user.name", "user.email"), FALLBACK_AUTHOR):
        if not git("config", key, check=False) and not os.environ.get("GIT_AUTHOR_" + key[5:].upper()):
            author += ["-c", "%s=%s" % (key, fallback)]
    git(*author, "commit", "--quiet", "--no-verify", "--message", "Create %s from the Modelyard template" % PROJECT)
    git("checkout", "--quiet", "-b", "dev")
    if author:
        print("git knows no user.name or user.email: the first commit is by %s <%s>." % FALLBACK_AUTHOR)


def remove_empty_folders():
    for folder in CI_FOLDERS:
        if os.path.isdir(folder) and not os.listdir(folder):
            os.rmdir(folder)


def has_git():
    try:
        subprocess.run(["git", "--version"], stdout=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


if __name__ == "__main__":
    remove_empty_folders()
    if has_git():
        write_cruft_state()
        make_repository()
        print("Made %s: a git repository with branches prod and dev; dev is checked out." % PROJECT)
        print("Next: its README.md, under \"Begin\".")
    else:
        print(
            "Made %s, but not a git repository: git is not installed. Install it, then, in the new folder:\n"
            "  git init && git checkout -b prod && git add --all && git commit -m 'Create %s' && git checkout -b dev"
            % (PROJECT, PROJECT)
        )
