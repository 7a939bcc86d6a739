"""SageMaker's control plane, of which MiniStack has nothing: jobs, pipelines and the model registry, really run."""
