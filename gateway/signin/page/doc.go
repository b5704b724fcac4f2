// Package page has the pages that people see at the gateway: the choice of a login, the
// consent, the pages that say why a sign-in ended, and the plain page at the root.
//
// A page is HTML from html/template and one style sheet inside it. No page has a script,
// an image or a font, and none loads anything: the Content-Security-Policy allows the
// style sheet by its hash and nothing else. It has no form-action, since browsers compare
// that with the redirects after a form too, and "Allow" would not reach the application.
//
// Names of applications and people come from outside. They are cleaned of characters
// that change the order of a text or hide in it, and stand in <bdi>.
package page
