// Package upgrade runs an earlier version of the engine and of the gateway, built from its commit,
// beside the present ones: the present engine reads its storage, its gateway serves while the
// engine is upgraded, and rows show its behaviour with fields that it does not know.
//
// A clone without that commit cannot: the test is skipped then, or fails if TEST_RELEASED is
// "required".
package upgrade
