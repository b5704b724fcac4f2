package pin

import (
	"math"
	"strconv"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
)

// The texts of RFC 8785: section 3.2.2 (types), 3.2.3 (order of keys), and further ones of
// its authors' test data, by meaning.
func TestTextsHaveTheCanonicalFormOfRFC8785(t *testing.T) {
	for name, test := range map[string]struct{ raw, want string }{
		"types": {
			`{
  "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}`,
			`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
		},
		"keys in the order of UTF-16": {
			`{
  "\u20ac": "Euro Sign",
  "\r": "Carriage Return",
  "\ufb33": "Hebrew Letter Dalet With Dagesh",
  "1": "One",
  "\ud83d\ude00": "Emoji: Grinning Face",
  "\u0080": "Control",
  "\u00f6": "Latin Small Letter O With Diaeresis"
}`,
			`{"\r":"Carriage Return","1":"One","` + "\u0080" + `":"Control","ö":"Latin Small Letter O With Diaeresis","€":"Euro Sign","😀":"Emoji: Grinning Face","` + "\ufb33" + `":"Hebrew Letter Dalet With Dagesh"}`,
		},
		"no normalization of Unicode": {`{"Unnormalized Unicode":"A\u030a"}`, `{"Unnormalized Unicode":"A` + "\u030a" + `"}`},
		"objects in arrays":           {`[ 56, { "d": true, "10": null, "1": [ ] } ]`, `[56,{"1":[],"10":null,"d":true}]`},
		"keys that are empty or have escapes": {
			`{"":"empty","1":{"f":{"f":"hi","F":5},"\n":56.0},"10":{},"111":[{"e":"yes","E":"no"}],"A":{}}`,
			`{"":"empty","1":{"\n":56,"f":{"F":5,"f":"hi"}},"10":{},"111":[{"E":"no","e":"yes"}],"A":{}}`,
		},
		"slashes and DEL have no escape": {`"\/\u007f\u2028"`, "\"/\x7f\u2028\""},
		"the short escapes":              {`"\u0008\u0009\u000a\u000c\u000d\u0022\u005c\u001F"`, `"\b\t\n\f\r\"\\\u001f"`},
	} {
		t.Run(name, func(t *testing.T) {
			value := jsontext.Value(test.raw)
			require.NoError(t, value.Canonicalize())
			require.Equal(t, test.want, string(value))
			require.NoError(t, value.Canonicalize())
			require.Equal(t, test.want, string(value))
		})
	}
}

// RFC 8785, appendix B.
func TestNumbersHaveTheCanonicalFormOfRFC8785(t *testing.T) {
	for bits, want := range map[uint64]string{
		0x0000000000000000: "0",
		0x8000000000000000: "0",
		0x0000000000000001: "5e-324",
		0x8000000000000001: "-5e-324",
		0x7fefffffffffffff: "1.7976931348623157e+308",
		0xffefffffffffffff: "-1.7976931348623157e+308",
		0x4340000000000000: "9007199254740992",
		0xc340000000000000: "-9007199254740992",
		0x4430000000000000: "295147905179352830000",
		0x44b52d02c7e14af5: "9.999999999999997e+22",
		0x44b52d02c7e14af6: "1e+23",
		0x44b52d02c7e14af7: "1.0000000000000001e+23",
		0x444b1ae4d6e2ef4e: "999999999999999700000",
		0x444b1ae4d6e2ef4f: "999999999999999900000",
		0x444b1ae4d6e2ef50: "1e+21",
		0x3eb0c6f7a0b5ed8c: "9.999999999999997e-7",
		0x3eb0c6f7a0b5ed8d: "0.000001",
		0x41b3de4355555553: "333333333.3333332",
		0x41b3de4355555554: "333333333.33333325",
		0x41b3de4355555555: "333333333.3333333",
		0x41b3de4355555556: "333333333.3333334",
		0x41b3de4355555557: "333333333.33333343",
		0xbecbf647612f3696: "-0.0000033333333333333333",
		0x43143ff3c1cb0959: "1424953923781206.2",
	} {
		got, err := canonical(strconv.AppendFloat(nil, math.Float64frombits(bits), 'e', -1, 64))
		require.NoError(t, err, want)
		require.Equal(t, want, string(got))
	}
}

func TestNumbersThatReadersTakeForDifferentOnesAreRefused(t *testing.T) {
	for number, kept := range map[string]bool{
		"0": true, "-0": true, "0.000": true, "0e5": true, "0e99999999999999999999": true, "1.50": true, "15e-1": true,
		"100": true, "1E2": true, "0.1e3": true, "9007199254740991": true, "9007199254740992": true, "-12.25": true,
		"1e308": true, "5e-324": true, "0.1": true, "1e22": true, "123456789012345680000": true,

		"9007199254740993":        false,
		"0.1000000000000000055":   false,
		"1e400":                   false,
		"-1e400":                  false,
		"1e-400":                  false,
		"1e99999999999999999999":  false,
		"1e-99999999999999999999": false,
		"3e-324":                  false,
		"123456789012345678901":   false,
		"1.00000000000000000001":  false,
	} {
		_, err := Read(Tool, []byte(`{"name":"t","inputSchema":{"maximum":`+number+`}}`))
		if kept {
			require.NoError(t, err, number)
		} else {
			require.ErrorContains(t, err, "a number is not one that all readers take for the same", number)
		}
	}
}
