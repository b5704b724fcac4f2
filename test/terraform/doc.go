// Package terraform tests the Terraform module in bootstrap/deploy/terraform.
//
// The short form needs no Terraform: it evaluates the module's own files with the library that
// Terraform evaluates them with, sends a real Vault what the Vault provider sends for each
// resource, and compares what Vault answers as the provider does. The long form, `make
// test-terraform`, runs Terraform or OpenTofu with the Vault provider, and compares their
// requests with those of the short form.
package terraform
