package kms

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/aws/smithy-go"
)

// Error is a call that did not succeed. It names the key and AWS's code.
type Error struct {
	Operation string // GenerateDataKey, Decrypt
	Key       string // as it was named in the call
	Code      string // AWS's; "" where there was no answer
	Message   string
	Advice    string // the remedy; may be empty

	// Refused: KMS has answered, and will continue to answer so until somebody
	// changes something. Otherwise nothing is known.
	Refused bool

	cause error
}

// Error says all of it.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Refused {
		fmt.Fprintf(&b, "KMS refuses %s with key %s", e.Operation, e.Key)
	} else {
		fmt.Fprintf(&b, "KMS does not answer %s with key %s", e.Operation, e.Key)
	}
	for _, part := range []string{e.Code, e.Message, e.Advice} {
		if part != "" {
			b.WriteString(": " + strings.TrimSuffix(part, "."))
		}
	}
	return b.String()
}

// Unwrap returns the SDK's error.
func (e *Error) Unwrap() error { return e.cause }

// Refused reports whether the error is KMS's "no", rather than no answer at all.
func Refused(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Refused
}

// refusals are the codes of a refusal, each with the remedy. All other codes leave open
// whether the key may be used: throttling, faults of AWS's, and credentials that have
// merely run out or a clock that is wrong.
var refusals = map[string]string{ //nolint:gosec // names of errors, no credentials
	"AccessDeniedException":         "allow the action on this key in the identity's IAM policy and in the key's policy, for this encryption context",
	"AccessDenied":                  "allow the identity to assume its role",
	"DisabledException":             "enable the key",
	"IncorrectKeyException":         "it was encrypted under another key: encrypt it under this one",
	"InvalidArnException":           "name the key by its id, its ARN or alias/…",
	"InvalidCiphertextException":    "it was not encrypted under this key with this encryption context, or was altered since",
	"InvalidClientTokenId":          "these AWS credentials do not exist: give others",
	"InvalidKeyUsageException":      "choose a symmetric key for encryption (SYMMETRIC_DEFAULT)",
	"KMSInvalidStateException":      "the key is pending deletion, or its key material is missing: cancel the deletion, or choose another key",
	"NotFoundException":             "there is no such key in this account and region: check key_id and region",
	"OptInRequired":                 "enable the region, or the service, in the AWS account",
	"UnrecognizedClientException":   "these AWS credentials do not exist: give others",
	"UnsupportedOperationException": "choose a symmetric key for encryption (SYMMETRIC_DEFAULT)",
	"ValidationException":           "name the key by its id, its ARN or alias/…",
}

// advices are for codes that do not count as refusals.
var advices = map[string]string{ //nolint:gosec // names of errors, no credentials
	"ExpiredToken":              "the AWS credentials have expired: give others",
	"ExpiredTokenException":     "the AWS credentials have expired: give others",
	"InvalidSignatureException": "the secret key does not belong to the access key, or this machine's clock is wrong",
	"RequestExpired":            "this machine's clock is wrong",
}

// explain makes an Error of the SDK's.
func explain(operation, key string, err error) *Error {
	e := &Error{Operation: operation, Key: key, cause: err}
	if err == nil {
		e.Message = "the answer was thrown away"
		return e
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		e.Code, e.Message = api.ErrorCode(), api.ErrorMessage()
		e.Advice, e.Refused = refusals[e.Code]
		if !e.Refused {
			e.Advice = advices[e.Code]
		}
		return e
	}
	var network *net.OpError
	switch {
	case strings.Contains(err.Error(), "get credentials:"): // the SDK has no type for it
		e.Message, e.Advice = "no AWS credentials were found", "give access_key and secret_key, or credentials where the AWS SDK looks for them: environment, shared files, the machine's role"
	case errors.Is(err, context.DeadlineExceeded):
		e.Message = fmt.Sprintf("no answer within %s", Timeout)
	case errors.Is(err, context.Canceled):
		e.Message = "the request was given up"
	case errors.As(err, &network):
		e.Message = network.Error()
	default:
		e.Message = root(err)
	}
	return e
}

// root returns the text of the innermost error: the texts around it repeat the
// caller's, which are better.
func root(err error) string {
	for next := err; next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}

// unexpected is the error for an answer that does not follow KMS's API. It does not
// count as a refusal.
func unexpected(operation, key string) *Error {
	return &Error{Operation: operation, Key: key, Message: "the answer does not follow KMS's API: is the endpoint KMS's?"}
}
