"""The seed function: makes, updates and deletes what a project has outside CloudFormation's reach.

CloudFormation calls it for the custom resources of servicecatalog/product.yaml and portfolio.yaml: Git repository,
branches and their protection, CI variables, model package groups, and the published template.
"""
