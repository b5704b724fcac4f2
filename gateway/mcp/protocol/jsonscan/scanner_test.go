package jsonscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// skipAll reads the text as one value with nothing behind it.
func skipAll(data []byte) error {
	s, err := New(data)
	if err != nil {
		return err
	}
	if err := s.Skip(); err != nil {
		return err
	}
	return s.End()
}

var texts = map[string]bool{
	`{}`:                            true,
	` [ ] `:                         true,
	`null`:                          true,
	`{"a":[1,2,{"b":null}],"c":{}}`: true,
	`[[],{},"",0,-0,1e5,1.5E-7]`:    true,
	"\t{\r\n\"a\" : 1 }\n":          true,
	`"\u00e9\n\"\\\/"`:              true,
	`"\ud83d\ude00"`:                true,
	`"\ud83d"`:                      true, // its value is refused, not the text
	``:                              false,
	` `:                             false,
	`{`:                             false,
	`[`:                             false,
	`{]`:                            false,
	`[}`:                            false,
	`{"a"}`:                         false,
	`{"a":}`:                        false,
	`{"a":1,}`:                      false,
	`{,"a":1}`:                      false,
	`[1,]`:                          false,
	`[,1]`:                          false,
	`[1 2]`:                         false,
	`{"a":1 "b":2}`:                 false,
	`{a:1}`:                         false,
	`{'a':1}`:                       false,
	`{1:1}`:                         false,
	`01`:                            false,
	`1.`:                            false,
	`.5`:                            false,
	`+1`:                            false,
	`-`:                             false,
	`1e`:                            false,
	`1e+`:                           false,
	`tru`:                           false,
	`nul`:                           false,
	`True`:                          false,
	`NaN`:                           false,
	`"`:                             false,
	`"\x"`:                          false,
	`"\u12"`:                        false,
	`"\u12g4"`:                      false,
	"\"a\nb\"":                      false,
	"\"a\x00b\"":                    false,
	`{} {}`:                         false,
	`{}x`:                           false,
	`// c` + "\n{}":                 false,
	"\ufeff{}":                      false,
	"{}\x00":                        false,
	"\"\xff\"":                      false,
	"\"\xed\xa0\x80\"":              false,
}

func TestSkipAcceptsJSONAndNothingElse(t *testing.T) {
	for text, want := range texts {
		err := skipAll([]byte(text))
		require.Equal(t, want, err == nil, "%q: %v", text, err)
	}
}

func TestSkipBoundsTheDepth(t *testing.T) {
	deep := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	require.NoError(t, skipAll(deep(MaxDepth)))
	require.ErrorIs(t, skipAll(deep(MaxDepth+1)), ErrTooDeep)
	require.ErrorIs(t, skipAll([]byte(strings.Repeat(`{"a":`, 1<<20))), ErrTooDeep)
}

func TestStringsAreFoundAtEveryOffset(t *testing.T) {
	for n := range 40 {
		for at := range n + 1 {
			for _, c := range []string{`\"`, `\\`, `\u0041`, "é", "\u00ff"} {
				text := `"` + strings.Repeat("x", at) + c + strings.Repeat("y", n-at) + `"`
				s, err := New([]byte(text))
				require.NoError(t, err)
				got, err := s.String()
				require.NoError(t, err, text)
				require.NoError(t, s.End())
				var want string
				require.NoError(t, json.Unmarshal([]byte(text), &want))
				value, err := got.Bytes()
				require.NoError(t, err)
				require.Equal(t, want, string(value))
				require.True(t, got.Is(want))
			}
		}
	}
}

func TestStringValueRefusesLoneSurrogates(t *testing.T) {
	for _, text := range []string{`"\ud83d"`, `"\ude00"`, `"\ud83dx"`, `"\ud83d\u0041"`, `"\ud83d\ud83d\ude00"`} {
		s, err := New([]byte(text))
		require.NoError(t, err)
		v, err := s.String()
		require.NoError(t, err, text)
		_, err = v.Bytes()
		require.ErrorIs(t, err, ErrSurrogate, text)
	}
}

func TestRawReturnsTheBytesOfTheValue(t *testing.T) {
	s, err := New([]byte(` { "a" : [ 1 , 2 ] , "b":3 } `))
	require.NoError(t, err)
	require.NoError(t, s.Enter('{'))
	key, more, err := s.Member(true)
	require.NoError(t, err)
	require.True(t, more && key.Is("a"))
	raw, err := s.Raw()
	require.NoError(t, err)
	require.Equal(t, `[ 1 , 2 ]`, string(raw))
	_, more, err = s.Member(false)
	require.NoError(t, err)
	require.True(t, more)
	require.NoError(t, s.Skip())
	_, more, err = s.Member(false)
	require.NoError(t, err)
	require.False(t, more)
	require.NoError(t, s.End())
}

// walk reads the text through Enter, Member and Element alone.
func walk(s *Scanner) error {
	switch s.Peek() {
	case '{':
		if err := s.Enter('{'); err != nil {
			return err
		}
		for first := true; ; first = false {
			_, more, err := s.Member(first)
			if err != nil || !more {
				return err
			}
			if err := walk(s); err != nil {
				return err
			}
		}
	case '[':
		if err := s.Enter('['); err != nil {
			return err
		}
		for first := true; ; first = false {
			more, err := s.Element(first)
			if err != nil || !more {
				return err
			}
			if err := walk(s); err != nil {
				return err
			}
		}
	}
	return s.Skip()
}

func FuzzAcceptsWhatEncodingJSONAccepts(f *testing.F) {
	for text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := skipAll(data)
		if errors.Is(err, ErrTooDeep) {
			return
		}
		want := json.Valid(data) && utf8.Valid(data)
		if want != (err == nil) {
			t.Fatalf("%q: %v, encoding/json accepts it: %v", data, err, want)
		}
		s, err := New(data)
		if err == nil {
			if err = walk(&s); err == nil {
				err = s.End()
			}
		}
		if want != (err == nil) {
			t.Fatalf("%q, step by step: %v, encoding/json accepts it: %v", data, err, want)
		}
	})
}

func BenchmarkSkip(b *testing.B) {
	for _, size := range []int{200, 2 << 10, 64 << 10} {
		text := []byte(`{"items":[` + strings.Repeat(`{"name":"some-name","value":12345,"text":"a longer text with \"quotes\" and more of it"},`, size/90) + `{}]}`)
		b.Run(fmt.Sprintf("%d bytes", len(text)), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if err := skipAll(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	text := []byte(`"` + string(bytes.Repeat([]byte("x"), 64<<10)) + `"`)
	b.Run("one long string", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if err := skipAll(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
