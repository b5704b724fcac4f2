package pin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// canonical returns a text's form of RFC 8785. It refuses a text that is not I-JSON (RFC 7493,
// section 2), which could be read in two ways: one with invalid UTF-8, with half of a surrogate
// pair, with a key twice in an object, or with a number that its canonical form does not keep.
func canonical(raw []byte) ([]byte, error) {
	if err := inspect(raw); err != nil {
		return nil, err
	}
	value := jsontext.Value(bytes.Clone(raw))
	if err := value.Canonicalize(); err != nil {
		return nil, invalid(err)
	}
	return value, nil
}

// inspect refuses numbers that the canonical form would change, and depths without a bound.
func inspect(raw []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(raw))
	for {
		token, err := d.ReadToken()
		switch {
		case err == io.EOF: //nolint:errorlint // an end is never wrapped
			return nil
		case err != nil:
			return invalid(err)
		case d.StackDepth() > maxDeep:
			return fmt.Errorf("more than %d objects and arrays are within each other", maxDeep)
		case token.Kind() == jsontext.KindNumber && !keeps(token.String()):
			return fmt.Errorf("a number is not one that all readers take for the same, at byte %d", d.InputOffset())
		}
	}
}

// invalid describes the mistake in a text without quoting it: its words are the server's.
func invalid(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return errors.New("an object has a key twice")
	case errors.As(err, &syntax):
		return fmt.Errorf("it is not JSON in UTF-8, at byte %d", syntax.ByteOffset)
	default:
		return errors.New("it is not JSON in UTF-8")
	}
}

// keeps reports whether the canonical form of a number has the number's exact value.
func keeps(number string) bool {
	value, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return false // beyond the range of a float64
	}
	given, ok := decimalOf(number)
	kept, _ := decimalOf(string(jsontext.AppendFloat(nil, value, 64)))
	return ok && given == kept
}

// decimal is the exact value of a number in JSON: digits, without zeros at either end, times
// ten to the exponent.
type decimal struct {
	negative bool
	digits   string
	exponent int
}

// decimalOf reads a number of JSON; false if its exponent is out of all bounds.
func decimalOf(number string) (decimal, bool) {
	var d decimal
	number, d.negative = strings.CutPrefix(number, "-")
	number, exponent := cutExponent(number)
	whole, fraction, _ := strings.Cut(number, ".")
	digits := whole + fraction
	d.digits = strings.TrimRight(digits, "0")
	if d.digits == "" {
		return decimal{}, true // zero has no sign and no exponent
	}
	power, err := strconv.Atoi(exponent)
	d.exponent = power - len(fraction) + len(digits) - len(d.digits)
	d.digits = strings.TrimLeft(d.digits, "0")
	return d, err == nil
}

func cutExponent(number string) (mantissa, exponent string) {
	if i := strings.IndexAny(number, "eE"); i >= 0 {
		return number[:i], number[i+1:]
	}
	return number, "0"
}
