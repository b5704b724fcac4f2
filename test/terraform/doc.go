// Package terraform tests the Terraform module in bootstrap/deploy/terraform.
//
// The short form needs no Terraform: it evaluates the module's own files with Terraform's
// library, sends a real Vault the same requests for each resource as the Vault provider, and
// compares the answers as the provider does. The long form, `make test-terraform`, runs
// Terraform or OpenTofu with the Vault provider, and compares their requests with those of the
// short form.
package terraform
