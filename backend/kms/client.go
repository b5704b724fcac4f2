package kms

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const (
	// Timeout bounds each call, its retries and the fetching of credentials
	// included. Vault waits for requests that are held, so they must be short.
	Timeout = 3 * time.Second

	// attempts and maxBackoff make two retries fit well into Timeout.
	attempts   = 3
	maxBackoff = 500 * time.Millisecond

	// DataKeySize is the size of a data key in bytes: AES-256.
	DataKeySize = 32

	// MaxCiphertext is the size of the largest ciphertext of KMS, in bytes.
	MaxCiphertext = 6144
)

// Names in the encryption contexts.
const (
	contextMount    = "mcp-mount"
	contextAudience = "mcp-audience"
	contextClient   = "mcp-client"
)

// DataKeyContext is the encryption context of the data keys that a mount makes
// for an audience. The mount is named by its accessor in Vault.
func DataKeyContext(mount, audience string) map[string]string {
	return map[string]string{contextMount: mount, contextAudience: audience}
}

// TokenContext is the encryption context of a token that was encrypted for a
// client, to be handed to the engine.
func TokenContext(mount, client string) map[string]string {
	return map[string]string{contextMount: mount, contextClient: client}
}

// Config says where KMS is and who asks it. The zero value takes everything from
// the SDK's default chain: environment, shared files, the machine's role.
type Config struct {
	Region   string // default: the key's own where it is named by its ARN, else the chain's
	Endpoint string // URL of a private endpoint. Default: AWS's public one

	AccessKeyID     string // with SecretAccessKey: instead of the chain's credentials
	SecretAccessKey string
	SessionToken    string // of temporary credentials
}

// Check returns an error that names the wrong field, if there is one.
func (c *Config) Check() error {
	if (c.AccessKeyID == "") != (c.SecretAccessKey == "") {
		return errors.New("fields access_key and secret_key: give both, or neither to use the default chain of the AWS SDK")
	}
	if c.SessionToken != "" && c.AccessKeyID == "" {
		return errors.New("field session_token: it needs access_key and secret_key")
	}
	if c.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("field endpoint: give a URL such as https://vpce-0123.kms.eu-central-1.vpce.amazonaws.com, without user, query or fragment")
	}
	return nil
}

// Client speaks to KMS. It is safe for concurrent use.
type Client struct {
	api    *kms.Client
	region string // "" where none is configured and each key must name its own
}

// New makes a client, and sends no request. The error is about the configuration.
func New(ctx context.Context, c Config) (*Client, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	options := []func(*config.LoadOptions) error{
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.MaxBackoff, o.RateLimiter = attempts, maxBackoff, ratelimit.None
			})
		}),
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.AccessKeyID != "" {
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("the AWS configuration cannot be loaded: %w", err)
	}
	api := kms.NewFromConfig(loaded, func(o *kms.Options) {
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
	})
	return &Client{api: api, region: loaded.Region}, nil
}

// regionOf returns the region in a key's ARN, "" where the key is named otherwise.
func regionOf(key string) string {
	if parts := strings.Split(key, ":"); len(parts) == 6 && parts[0] == "arn" && parts[2] == "kms" {
		return parts[3]
	}
	return ""
}

// at has a call go to the region of its key: data keys outlive the key that was
// configured when they were made.
func at(key string) func(*kms.Options) {
	return func(o *kms.Options) {
		if region := regionOf(key); region != "" {
			o.Region = region
		}
	}
}

// DataKey is a new data key.
type DataKey struct {
	Plaintext []byte // DataKeySize bytes
	Wrapped   []byte // only KMS can turn it into Plaintext
	KeyARN    string // the KMS key it is wrapped under
}

// GenerateDataKey has KMS make a data key, under a KMS key named by id, ARN or
// alias. Every error is an [*Error].
func (c *Client) GenerateDataKey(ctx context.Context, key string, encryptionContext map[string]string) (*DataKey, error) {
	if err := c.checkRegion("GenerateDataKey", key); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	out, err := c.api.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: aws.String(key), KeySpec: types.DataKeySpecAes256, EncryptionContext: encryptionContext,
	}, at(key))
	if err != nil {
		return nil, explain("GenerateDataKey", key, err)
	}
	if len(out.Plaintext) != DataKeySize || len(out.CiphertextBlob) == 0 || regionOf(aws.ToString(out.KeyId)) == "" {
		return nil, unexpected("GenerateDataKey", key)
	}
	return &DataKey{Plaintext: out.Plaintext, Wrapped: out.CiphertextBlob, KeyARN: aws.ToString(out.KeyId)}, nil
}

// Decrypt has KMS decrypt a ciphertext under exactly that key, named by its ARN, and
// exactly that context. Every error is an [*Error].
func (c *Client) Decrypt(ctx context.Context, keyARN string, ciphertext []byte, encryptionContext map[string]string) ([]byte, error) {
	if err := c.checkRegion("Decrypt", keyARN); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	out, err := c.api.Decrypt(ctx, &kms.DecryptInput{
		KeyId: aws.String(keyARN), CiphertextBlob: ciphertext, EncryptionContext: encryptionContext,
	}, at(keyARN))
	if err != nil {
		return nil, explain("Decrypt", keyARN, err)
	}
	if aws.ToString(out.KeyId) != keyARN {
		return nil, unexpected("Decrypt", keyARN)
	}
	return out.Plaintext, nil
}

// Unwrap has KMS unwrap a data key. Every error is an [*Error].
func (c *Client) Unwrap(ctx context.Context, w *WrappedKey) ([]byte, error) {
	key, err := c.Decrypt(ctx, w.KeyARN, w.Wrapped, DataKeyContext(w.Mount, w.Audience))
	if err != nil {
		return nil, err
	}
	if len(key) != DataKeySize {
		return nil, unexpected("Decrypt", w.KeyARN)
	}
	return key, nil
}

// checkRegion refuses a call that could go nowhere.
func (c *Client) checkRegion(operation, key string) error {
	if c.region != "" || regionOf(key) != "" {
		return nil
	}
	return &Error{Operation: operation, Key: key, Message: "no region is configured", Advice: "set region, or name the key by its ARN"}
}
