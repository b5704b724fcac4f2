package signin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"vault-plugin-secrets-mcp/gateway/signin/application"
)

// register registers an application (RFC 7591, section 3). The answer's client_id is the
// registration itself, sealed: nothing is stored, so no store can be filled.
func (h *Handler) register(w http.ResponseWriter, r *http.Request) {
	_, source := visit(r)
	if wait := h.Limits.pages.take(pageKey{registerPath, sourceKey(source)}, h.Now()); wait > 0 {
		setRetryAfter(w.Header(), wait)
		h.refuseRegistration(w, r, reasonRateLimited, &application.RegistrationError{
			Status: http.StatusTooManyRequests, Code: codeUnavailable, Description: "too many requests came from your address: wait, and try again",
		})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		h.refuseRegistration(w, r, reasonBadRequest, &application.RegistrationError{
			Status: http.StatusBadRequest, Code: "invalid_client_metadata", Description: "the body could not be read, or is longer than 64 KB",
		})
		return
	}
	answer, err := h.Applications.Register(body)
	if err != nil {
		var why *application.RegistrationError
		if !errors.As(err, &why) {
			why = &application.RegistrationError{Status: http.StatusServiceUnavailable, Code: codeUnavailable, Description: "applications cannot be registered at the moment"}
		}
		h.refuseRegistration(w, r, reasonApplication, why)
		return
	}
	answerJSON(w, http.StatusCreated, json.RawMessage(answer))
}

// refuseRegistration answers as RFC 7591, section 3.2.2, has it.
func (h *Handler) refuseRegistration(w http.ResponseWriter, r *http.Request, reason string, why *application.RegistrationError) {
	h.auditRefusal(r, facts{}, &refusal{status: why.Status, reason: reason, detail: why.Description})
	answerJSON(w, why.Status, map[string]string{"error": why.Code, "error_description": describe(why.Description)})
}
