output "platform" {
  description = "What platform.yaml answers, by name."
  value       = aws_cloudformation_stack.platform.outputs
}

output "portfolio" {
  description = "What portfolio.yaml answers, by name."
  value       = aws_cloudformation_stack.portfolio.outputs
}

output "version" {
  description = "The template's and the product's."
  value       = local.manifest.version
}

output "studio_tag" {
  description = "The tag with which a SageMaker domain lists the S3 project template in Studio."
  value       = { "sagemaker:projectS3TemplatesLocation" = "s3://${aws_cloudformation_stack.platform.outputs["TemplateBucket"]}/projects/" }
}
