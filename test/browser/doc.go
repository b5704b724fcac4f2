// Package browser opens the gateway's pages in Chromium, without a display. Each page is
// looked at on a phone and on a desk, light and dark: axe-core finds no obstacle, nothing
// scrolls sideways, and no page has a script or loads anything. Then people sign in with it,
// at a company's identity provider, through a real gateway and Vault, with applications that
// get their answers at an address of https, on the loopback, and by a link of their own.
//
// The tests need Debian's chromium and npm. `scripts/field.sh missing browser` prints what
// this machine lacks; the tests are skipped then. If TEST_FIELD is "required", they fail.
package browser
