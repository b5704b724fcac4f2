package pin

import (
	"bytes"
	"encoding/json"
	"math/big"
	"reflect"
	"strings"
	"testing"
)

// FuzzRead holds the digest against another reader, encoding/json: texts with one digest have
// one canonical text, and to that reader each of them has the meaning of the canonical text.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{"name":"a","description":"b\u0000\ud83d\ude00","inputSchema":{"maximum":1e2,"x":[0.10,-0]}}`,
		`{"name":"a","name":"b"}`, `{"name":"a","x":9007199254740993}`, `{"name":"\ud800"}`, `{"uri":"ui://a","size":1,"text":"<p>"}`,
		`{"uri":"a:b","size":1,"annotations":{"lastModified":"2026-01-12T15:00:58Z"}}`, `{"name":"a","version":"1"}`, `"text"`, `{"uriTemplate":"a:{b}"}`,
		"{\"name\":\"a\xff\"}", `{"name":"a","x":1e400}`, `{"name":"a","x":0e400}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, kind := range Kinds() {
			d, err := Read(kind, raw)
			if err != nil {
				continue
			}
			again, err := Read(kind, d.Text)
			if err != nil || !reflect.DeepEqual(d, again) {
				t.Fatalf("%s: %q is read as %q, and that as %+v, %v", kind, raw, d.Text, again, err)
			}
			if kind == Resource || kind == Server {
				continue // not all members are in the digest
			}
			if given, kept := decode(t, raw), decode(t, d.Text); !reflect.DeepEqual(given, kept) {
				t.Fatalf("%s: %q means %#v, and its canonical form %q means %#v", kind, raw, given, d.Text, kept)
			}
			if object, ok := decode(t, raw).(map[string]any); ok && d.Name != "" && object["name"] != d.Name && object["uri"] != d.Name && object["uriTemplate"] != d.Name {
				t.Fatalf("%s: %q has the name %q", kind, raw, d.Name)
			}
		}
	})
}

// decode reads a text as encoding/json does, with exact numbers.
func decode(t *testing.T, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return exactly(value)
}

func exactly(value any) any {
	switch value := value.(type) {
	case json.Number:
		exact, _ := new(big.Rat).SetString(string(value))
		return exact.RatString()
	case map[string]any:
		for key := range value {
			value[key] = exactly(value[key])
		}
	case []any:
		for i := range value {
			value[i] = exactly(value[i])
		}
	}
	return value
}

// FuzzAdmitsURI: a template of a server never does harm, and admits only URIs that begin as it does.
func FuzzAdmitsURI(f *testing.F) {
	f.Add("file:///{a}", "file:///b")
	f.Add("a:{b,c*}{?d:9999}", "a:x?d=1")
	f.Add("{"+strings.Repeat("a,", 70)+"b}", "")
	f.Add("x{+y}{#z}", "x\nfile:///b")
	f.Fuzz(func(t *testing.T, text, uri string) {
		s := NewSet(map[Kind]map[string][]Digest{Template: {text: {digestOf("a")}}})
		prefix, _, _ := strings.Cut(text, "{")
		if s.AdmitsURI(uri) && !strings.HasPrefix(uri, prefix) {
			t.Fatalf("%q admits %q", text, uri)
		}
	})
}
