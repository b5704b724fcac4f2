// Command aws replaces the AWS CLI in tests of the documentation. It knows the few
// commands that the pages show, and takes endpoint, region and credentials from the same
// places as the AWS CLI.
//
//	aws kms encrypt --key-id KEY --plaintext fileb://FILE --encryption-context A=B,C=D --output text --query CiphertextBlob
//	aws kms disable-key --key-id KEY
//	aws kms enable-key --key-id KEY
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "aws:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) < 2 || args[0] != "kms" {
		return errors.New("this stand-in for the AWS CLI knows `aws kms` alone")
	}
	flags := flag.NewFlagSet("aws kms "+args[1], flag.ContinueOnError)
	key := flags.String("key-id", "", "")
	plaintext := flags.String("plaintext", "", "")
	bound := flags.String("encryption-context", "", "")
	output := flags.String("output", "json", "")
	query := flags.String("query", "", "")
	if err := flags.Parse(args[2:]); err != nil {
		return err
	}
	loaded, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	client := kms.NewFromConfig(loaded)
	switch args[1] {
	case "disable-key":
		_, err = client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: key})
	case "enable-key":
		_, err = client.EnableKey(ctx, &kms.EnableKeyInput{KeyId: key})
	case "encrypt":
		if *output != "text" || *query != "CiphertextBlob" {
			return errors.New("this stand-in for the AWS CLI prints --output text --query CiphertextBlob alone")
		}
		err = encrypt(ctx, client, *key, *plaintext, *bound, out)
	default:
		err = fmt.Errorf("this stand-in for the AWS CLI does not know %s", args[1])
	}
	return err
}

func encrypt(ctx context.Context, client *kms.Client, key, plaintext, bound string, out io.Writer) error {
	path, ok := strings.CutPrefix(plaintext, "fileb://")
	if !ok {
		return errors.New("this stand-in for the AWS CLI takes only --plaintext fileb://FILE")
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	encryptionContext := map[string]string{}
	for pair := range strings.SplitSeq(bound, ",") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("--encryption-context: %q is not NAME=VALUE", pair)
		}
		encryptionContext[name] = value
	}
	made, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: content, EncryptionContext: encryptionContext})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, base64.StdEncoding.EncodeToString(made.CiphertextBlob))
	return err
}
