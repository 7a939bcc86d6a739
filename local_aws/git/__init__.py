"""Git repositories on this machine, and the door through which `git clone` and `git push` reach them over HTTP.

| module | what it is about |
|---|---|
| repositories | bare repositories in a folder, each found by a key |
| smart_http | Git's smart HTTP protocol: `GitDoor`, and what a host of repositories has to say (`GitHost`) |
| push_rules | what a push may not do, as data; enforced by the hooks beside it |
| credentials | passwords of CodeCommit, made and verified; the credential helper `python -m local_aws git-credential` |
| codecommit, codecommit_commits | CodeCommit's API; what a CreateCommit makes of a branch's files |
| codecommit_pull_requests, codecommit_merges, codecommit_comments | pull requests, merges, comments on commits |
| codecommit_revisions | how its operations name branches and commits |
| merging | merging one commit into another without a working tree, for both hosts |
| codecommit_state | what CodeCommit knows of its repositories beside Git, and the events that tell of their changes |
| codecommit_host | who may clone from and push to CodeCommit's repositories |
| github, github_* | the stand-in for GitHub: `github` lists its parts |
"""
