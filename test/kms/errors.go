package kms

import (
	"fmt"
	"net/http"
)

// Failure is an error as the answer, in AWS's words.
type Failure struct {
	Status  int    // of HTTP: 400 for every mistake of the caller
	Code    string // AWS's name of the error
	Message string
}

// Error has both.
func (f *Failure) Error() string { return f.Code + ": " + f.Message }

func failf(code, format string, args ...any) *Failure {
	return &Failure{Status: statusOf(code), Code: code, Message: fmt.Sprintf(format, args...)}
}

// statusOf returns the status of an error. The JSON protocol answers 400 for every mistake
// of the caller, throttling included.
func statusOf(code string) int {
	switch code {
	case "KMSInternalException", "KeyUnavailableException", "InternalFailure":
		return http.StatusInternalServerError
	case "DependencyTimeoutException", "ServiceUnavailableException":
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}
