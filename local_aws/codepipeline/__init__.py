"""CodePipeline: a commit's way through checks, approvals and builds, one stage after another.

| module | what it is about |
|---|---|
| structure | what a pipeline may declare: pure checks |
| variables | `#{Namespace.Name}` in an action's configuration |
| stages | which execution enters a stage, which is superseded, what an execution does next: pure decisions |
| records | what is kept of pipelines, executions and actions; the events that tell of them |
| actions | what an action does: CodeCommit, CodeBuild, a person's approval |
| engine | the thread that moves executions |
| answers | what the API tells of all that |
| service | the operations |
"""
