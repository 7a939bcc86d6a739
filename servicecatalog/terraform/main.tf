# The platform and the product for those who install with Terraform: the same two CloudFormation templates, and the
# same files that `python -m servicecatalog build` writes. What they make is said there, not here.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
  }
}

data "aws_caller_identity" "this" {}
data "aws_region" "this" {}

locals {
  # What uploads. Terraform would own what it uploads: with another version it would delete the one before, in all its
  # versions, which projects were made from and a roll-back goes back to.
  upload   = "'${local.manifest.builder.python}' -m servicecatalog upload '${abspath(var.build_folder)}'"
  account  = data.aws_caller_identity.this.account_id
  region   = data.aws_region.this.name
  tags     = { "modelyard:part" = "platform" }
  manifest = jsondecode(file("${var.build_folder}/manifest.json"))
  # TemplateRepository is the portfolio's alone, PermissionsBoundaryArn both stacks'.
  given         = { for name, value in var.parameters : name => value if value != "" && name != "TemplateRepository" }
  for_portfolio = { for name in ["PermissionsBoundaryArn", "TemplateRepository"] : name => var.parameters[name] if lookup(var.parameters, name, "") != "" }

  platform_parameters = merge(local.given, local.manifest.parameters.platform, {
    CodeBucket        = aws_s3_bucket.code.bucket
    GitHost           = var.git_host
    GitOwner          = var.git_owner
    GitTokenSecretArn = var.git_token_secret_arn
  })
  # Five parameters, those that are not used empty.
  principals           = { for index in range(5) : "Principal${index + 1}" => try(var.principals[index], "") }
  portfolio_parameters = merge(local.principals, local.manifest.parameters.portfolio, local.for_portfolio)
}

# ------------------------------------------------------------------------------------------------ the code bucket

resource "aws_s3_bucket" "code" {
  bucket = "modelyard-platform-${local.account}-${local.region}"
  tags   = local.tags
  # An installation by the command line may take it over, with all that ever ran.
  force_destroy = var.destroy_code
}

resource "aws_s3_bucket_public_access_block" "code" {
  bucket                  = aws_s3_bucket.code.bucket
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "code" {
  bucket = aws_s3_bucket.code.bucket
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "code" {
  bucket = aws_s3_bucket.code.bucket
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_policy" "code" {
  bucket = aws_s3_bucket.code.bucket
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "EncryptedOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.code.arn, "${aws_s3_bucket.code.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

resource "terraform_data" "code" {
  # Keys name contents, so that nothing else tells whether an object is up to date.
  triggers_replace = [aws_s3_bucket.code.arn, local.manifest.code]
  provisioner "local-exec" {
    command     = "${local.upload} --code ${aws_s3_bucket.code.bucket}"
    working_dir = local.manifest.builder.checkout
    environment = { AWS_REGION = local.region }
  }
  depends_on = [aws_s3_bucket_versioning.code, aws_s3_bucket_server_side_encryption_configuration.code]
}

# ------------------------------------------------------------------------------------------------ the stacks

resource "aws_cloudformation_stack" "platform" {
  name         = "modelyard"
  template_url = "https://s3.${local.region}.amazonaws.com/${aws_s3_bucket.code.bucket}/${local.manifest.code["platform.yaml"]}"
  parameters   = local.platform_parameters
  capabilities = ["CAPABILITY_NAMED_IAM"]
  tags         = local.tags
  depends_on   = [terraform_data.code, aws_s3_bucket_policy.code]

  lifecycle {
    precondition {
      condition     = var.git_host != "github" || (var.git_owner != "" && var.git_token_secret_arn != "")
      error_message = "git_host is github: git_owner and git_token_secret_arn must be given too."
    }
  }
}

resource "terraform_data" "product" {
  triggers_replace = [aws_cloudformation_stack.platform.outputs["TemplateBucket"], local.manifest.templates]
  provisioner "local-exec" {
    command     = "${local.upload} --templates ${aws_cloudformation_stack.platform.outputs["TemplateBucket"]}"
    working_dir = local.manifest.builder.checkout
    environment = { AWS_REGION = local.region }
  }
}

resource "aws_cloudformation_stack" "portfolio" {
  name         = "modelyard-portfolio"
  template_url = "https://s3.${local.region}.amazonaws.com/${aws_s3_bucket.code.bucket}/${local.manifest.code["portfolio.yaml"]}"
  parameters   = local.portfolio_parameters
  capabilities = ["CAPABILITY_NAMED_IAM"]
  tags         = local.tags
  depends_on   = [terraform_data.product]
}

# ------------------------------------------------------------------------------------------------ Studio's S3 templates

# Studio lists one template, the portfolio's; earlier ones stay for the projects that were made from them.
resource "terraform_data" "shown" {
  triggers_replace = [terraform_data.product.id, var.studio_s3_templates]
  provisioner "local-exec" {
    command     = "${local.upload} --show ${aws_cloudformation_stack.platform.outputs["TemplateBucket"]}${var.studio_s3_templates ? " --studio" : ""}"
    working_dir = local.manifest.builder.checkout
    environment = { AWS_REGION = local.region }
  }
  depends_on = [aws_cloudformation_stack.portfolio]
}
