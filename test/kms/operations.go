package kms

import (
	"io"
	"time"
)

// call is a request that is authenticated and parsed.
type call struct {
	server    *Server
	identity  *Identity
	operation string
	in        input
}

// input has the members of all requests. One operation uses a few of them.
type input struct {
	KeyID                        string            `json:"KeyId"`
	Plaintext                    []byte            `json:"Plaintext"`
	CiphertextBlob               []byte            `json:"CiphertextBlob"`
	EncryptionContext            map[string]string `json:"EncryptionContext"`
	KeySpec                      string            `json:"KeySpec"`
	NumberOfBytes                int               `json:"NumberOfBytes"`
	SourceKeyID                  string            `json:"SourceKeyId"`
	SourceEncryptionContext      map[string]string `json:"SourceEncryptionContext"`
	DestinationKeyID             string            `json:"DestinationKeyId"`
	DestinationEncryptionContext map[string]string `json:"DestinationEncryptionContext"`
	AliasName                    string            `json:"AliasName"`
	TargetKeyID                  string            `json:"TargetKeyId"`
}

// Limits of KMS, in bytes.
const (
	maxPlaintext  = 4096
	maxCiphertext = 6144
	maxDataKey    = 1024
)

const algorithm = "SYMMETRIC_DEFAULT"

var operations = map[string]func(*call) (any, *Failure){
	"CreateKey":           (*call).createKey,
	"CreateAlias":         (*call).createAlias,
	"DescribeKey":         (*call).describeKey,
	"Encrypt":             (*call).encrypt,
	"Decrypt":             (*call).decrypt,
	"GenerateDataKey":     (*call).generateDataKey,
	"ReEncrypt":           (*call).reEncrypt,
	"DisableKey":          (*call).disableKey,
	"EnableKey":           (*call).enableKey,
	"ScheduleKeyDeletion": (*call).scheduleKeyDeletion,
}

// authorized returns the key of that name if the identity may do the action with
// it.
func (c *call) authorized(action, name string, context map[string]string) (*masterKey, *Failure) {
	k, failure := c.server.find(name)
	if failure != nil {
		return nil, failure
	}
	if !c.identity.Policy.allows(action, k.arn, context) {
		return nil, c.deniedAction(action, k.arn)
	}
	return k, nil
}

// usable is authorized for a key that must be enabled.
func (c *call) usable(action, name string, context map[string]string) (*masterKey, *Failure) {
	k, failure := c.authorized(action, name, context)
	if failure != nil {
		return nil, failure
	}
	return k, k.usable()
}

func (c *call) denied(resource string) *Failure { return c.deniedAction("kms:"+c.operation, resource) }

func (c *call) deniedAction(action, resource string) *Failure {
	return failf("AccessDeniedException", "User: arn:aws:iam::%s:user/%s is not authorized to perform: %s on resource: %s because no identity-based policy allows the %s action",
		c.server.opts.Account, c.identity.Name, action, resource, action)
}

func (c *call) createKey() (any, *Failure) {
	if !c.identity.Policy.allows("kms:CreateKey", "*", nil) {
		return nil, c.denied("*")
	}
	k, err := c.server.newKey()
	if err != nil {
		return nil, failf("KMSInternalException", "%s", err)
	}
	return c.server.metadata(k), nil
}

func (c *call) createAlias() (any, *Failure) {
	k, failure := c.authorized("kms:CreateAlias", c.in.TargetKeyID, nil)
	if failure != nil {
		return nil, failure
	}
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.aliases[c.in.AliasName]; taken {
		return nil, failf("AlreadyExistsException", "An alias with the name %s already exists", s.arnPrefix()+c.in.AliasName)
	}
	s.aliases[c.in.AliasName] = k.id
	return struct{}{}, nil
}

func (c *call) describeKey() (any, *Failure) {
	k, failure := c.authorized("kms:DescribeKey", c.in.KeyID, nil)
	if failure != nil {
		return nil, failure
	}
	return c.server.metadata(k), nil
}

func (s *Server) metadata(k *masterKey) any {
	return map[string]any{"KeyMetadata": map[string]any{
		"AWSAccountId":          s.opts.Account,
		"Arn":                   k.arn,
		"CreationDate":          float64(k.createdAt.UnixMilli()) / 1000,
		"CustomerMasterKeySpec": algorithm,
		"Enabled":               k.state == stateEnabled,
		"EncryptionAlgorithms":  []string{algorithm},
		"KeyId":                 k.id,
		"KeyManager":            "CUSTOMER",
		"KeySpec":               algorithm,
		"KeyState":              k.state,
		"KeyUsage":              "ENCRYPT_DECRYPT",
		"MultiRegion":           false,
		"Origin":                "AWS_KMS",
	}}
}

func (c *call) encrypt() (any, *Failure) {
	if n := len(c.in.Plaintext); n == 0 || n > maxPlaintext {
		return nil, failf("ValidationException", "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length between 1 and %d", maxPlaintext)
	}
	k, failure := c.usable("kms:Encrypt", c.in.KeyID, c.in.EncryptionContext)
	if failure != nil {
		return nil, failure
	}
	blob, err := k.seal(c.server.opts.Random, c.in.Plaintext, c.in.EncryptionContext)
	if err != nil {
		return nil, failf("KMSInternalException", "%s", err)
	}
	return map[string]any{"CiphertextBlob": blob, "KeyId": k.arn, "EncryptionAlgorithm": algorithm}, nil
}

func (c *call) decrypt() (any, *Failure) {
	k, plaintext, failure := c.opened("kms:Decrypt", c.in.KeyID, c.in.EncryptionContext)
	if failure != nil {
		return nil, failure
	}
	return map[string]any{"Plaintext": plaintext, "KeyId": k.arn, "EncryptionAlgorithm": algorithm}, nil
}

// opened decrypts the request's ciphertext. named is the key that the request names for
// it, and may be empty.
func (c *call) opened(action, named string, context map[string]string) (*masterKey, []byte, *Failure) {
	if n := len(c.in.CiphertextBlob); n == 0 || n > maxCiphertext {
		return nil, nil, failf("ValidationException", "1 validation error detected: Value at 'ciphertextBlob' failed to satisfy constraint: Member must have length between 1 and %d", maxCiphertext)
	}
	made, err := keyOf(c.in.CiphertextBlob)
	if err != nil {
		return nil, nil, failf("InvalidCiphertextException", "")
	}
	if named == "" {
		named = made
	}
	k, failure := c.usable(action, named, context)
	if failure != nil {
		return nil, nil, failure
	}
	if k.id != made {
		return nil, nil, failf("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	plaintext, err := k.open(c.in.CiphertextBlob, context)
	if err != nil {
		return nil, nil, failf("InvalidCiphertextException", "")
	}
	return k, plaintext, nil
}

func (c *call) generateDataKey() (any, *Failure) {
	size := c.in.NumberOfBytes
	switch c.in.KeySpec {
	case "AES_256":
		size = 32
	case "AES_128":
		size = 16
	}
	if (c.in.KeySpec == "") == (c.in.NumberOfBytes == 0) || size < 1 || size > maxDataKey {
		return nil, failf("ValidationException", "Please specify either number of bytes or key spec.")
	}
	k, failure := c.usable("kms:GenerateDataKey", c.in.KeyID, c.in.EncryptionContext)
	if failure != nil {
		return nil, failure
	}
	plaintext := make([]byte, size)
	if _, err := io.ReadFull(c.server.opts.Random, plaintext); err != nil {
		return nil, failf("KMSInternalException", "%s", err)
	}
	blob, err := k.seal(c.server.opts.Random, plaintext, c.in.EncryptionContext)
	if err != nil {
		return nil, failf("KMSInternalException", "%s", err)
	}
	return map[string]any{"CiphertextBlob": blob, "Plaintext": plaintext, "KeyId": k.arn}, nil
}

func (c *call) reEncrypt() (any, *Failure) {
	source, plaintext, failure := c.opened("kms:ReEncryptFrom", c.in.SourceKeyID, c.in.SourceEncryptionContext)
	if failure != nil {
		return nil, failure
	}
	k, failure := c.usable("kms:ReEncryptTo", c.in.DestinationKeyID, c.in.DestinationEncryptionContext)
	if failure != nil {
		return nil, failure
	}
	blob, err := k.seal(c.server.opts.Random, plaintext, c.in.DestinationEncryptionContext)
	if err != nil {
		return nil, failf("KMSInternalException", "%s", err)
	}
	return map[string]any{
		"CiphertextBlob": blob, "KeyId": k.arn, "SourceKeyId": source.arn,
		"SourceEncryptionAlgorithm": algorithm, "DestinationEncryptionAlgorithm": algorithm,
	}, nil
}

func (c *call) disableKey() (any, *Failure) { return c.transition("kms:DisableKey", stateDisabled) }

func (c *call) enableKey() (any, *Failure) { return c.transition("kms:EnableKey", stateEnabled) }

func (c *call) transition(action, state string) (any, *Failure) {
	k, failure := c.authorized(action, c.in.KeyID, nil)
	if failure != nil {
		return nil, failure
	}
	if k.state == statePendingDeletion {
		return nil, k.usable()
	}
	c.server.setState(k.arn, state)
	return struct{}{}, nil
}

func (c *call) scheduleKeyDeletion() (any, *Failure) {
	const days = 30
	k, failure := c.authorized("kms:ScheduleKeyDeletion", c.in.KeyID, nil)
	if failure != nil {
		return nil, failure
	}
	c.server.setState(k.arn, statePendingDeletion)
	return map[string]any{
		"KeyId": k.arn, "KeyState": statePendingDeletion, "PendingWindowInDays": days,
		"DeletionDate": float64(c.server.opts.Now().Add(days * 24 * time.Hour).Unix()),
	}, nil
}
