package kms

import (
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// adminPrefix is the path at which any process of the machine can make the double fail:
//
//	GET    /-/calls    how often each operation was asked for
//	DELETE /-/calls    count from zero
//	POST   /-/faults   {"operation", "key", "times", "delay", "code", "message", "hang_up"}
//	DELETE /-/faults   work again
const adminPrefix = "/-/"

// faultForm is a Fault in JSON; delay is a duration such as "2s".
type faultForm struct {
	Operation string `json:"operation"`
	Key       string `json:"key"`
	Times     int    `json:"times"`
	Delay     string `json:"delay"`
	Code      string `json:"code"`
	Message   string `json:"message"`
	HangUp    bool   `json:"hang_up"`
}

func (s *Server) serveAdmin(w http.ResponseWriter, r *http.Request) {
	// A web page could make a browser on this machine send a request, but such a
	// request names its origin.
	if r.Header.Get("Origin") != "" {
		http.Error(w, "not for web pages", http.StatusForbidden)
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "GET " + adminPrefix + "calls":
		s.mu.Lock()
		defer s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.calls) // the caller may have gone
		return
	case "DELETE " + adminPrefix + "calls":
		s.ResetCalls()
	case "POST " + adminPrefix + "faults":
		f, err := readFault(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.Fail(f)
	case "DELETE " + adminPrefix + "faults":
		s.Recover()
	default:
		http.NotFound(w, r)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func readFault(body io.Reader) (Fault, error) {
	var form faultForm
	decoder := json.NewDecoder(body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&form); err != nil {
		return Fault{}, err
	}
	f := Fault{
		Operation: form.Operation, Key: form.Key, Times: form.Times,
		Code: form.Code, Message: form.Message, HangUp: form.HangUp,
	}
	var err error
	if form.Delay != "" {
		f.Delay, err = time.ParseDuration(form.Delay)
	}
	return f, err
}
