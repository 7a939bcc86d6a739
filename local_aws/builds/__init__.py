"""Builds, run for real: what CodeBuild and GitHub Actions do with a repository's own commands, on this machine.

A build has a folder of its own with an environment of its own (a home, temporary files, a Python environment that sees
what is installed beside the server), runs as the role that its service gives it, and ends with the server.

| module | what it is about |
|---|---|
| buildspec | what a buildspec says, as data |
| workspace | a build's folder and what its programs find in their environment |
| machine | what builds are run with |
| runner | how many run at once; one build's programs, which can be stopped |
| log | what a build prints, where it can be read |
| credentials | a build's role, at an address that its AWS clients ask |
| codebuild | the service: builds begun, described, stopped |
| records, course | its builds as they are kept; the course of one |
| build_events | what EventBridge is told of one |
| watching | what `python -m local_aws builds` shows |
"""
