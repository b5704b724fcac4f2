// Package browser opens the gateway's pages in Chromium, without a display. Each page is
// looked at on a phone and on a desk, light and dark: axe-core finds no obstacle, nothing
// scrolls sideways, and no page has a script or loads anything.
//
// The tests need Debian's chromium and npm. `scripts/field.sh missing browser` prints what
// this machine lacks; the tests are skipped then. If TEST_FIELD is "required", they fail.
package browser
