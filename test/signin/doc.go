// Package signin tests sign-in from outside: a real Vault and real gateways, with browsers and
// applications of raw HTTP. Programs that people have are in test/clients, a real browser is in
// test/browser.
//
// Faults of other OAuth front ends for MCP, and the tests that show that they do not happen here:
//
//	a challenge, documents and endpoints that     TestDiscovery, TestATokenIsGoodAtItsOwnResourceAlone,
//	applications do not find, or find twice       TestWithoutTheBlockThereIsNoSignIn
//	registrations that are refused, lost,         TestApplicationsRegisterThemselves, TestSecretsOfTheFile
//	or answered with what nobody registered
//	metadata documents that are not used          TestApplicationsByTheirVendorsDocuments
//	scopes, state, resource and prompt as         TestBrowsersAsPeopleUseThem
//	applications happen to send them; tabs,
//	cookies, reloads
//	redirects to anywhere, a consent that         TestAttacksOnTheBrowser
//	nobody gave, a callback in another browser
//	codes redeemed twice, or by others            TestCodes
//	parallel and lost refreshes that end a        TestRefresh, TestARefreshWhoseAnswerIsLostCanBeRepeated
//	sign-in, stolen ones that do not
//	a refresh that widens                         TestARefreshNeverWidens
//	an outage that logs everybody out             TestARefreshWhoseAnswerIsLostCanBeRepeated, TestAChangeOfVaultsLeader
//	a restart that does                           TestGatewaysFinishEachOthersSignIns, TestApplicationsRegisterThemselves
//	who is out, and is served on                  TestOutWithinASecond, TestOutAtTheNextRefresh,
//	                                              TestWhoseAccountTheCompanyClosesIsOutWhenTheLoginEnds
//	an access token's end that ends a call,       TestExpiryIsNotRevocation
//	a session or a child
//	a session, an answer or a secret of others    TestColleaguesAndApplicationsShareNothing
//	administrators' tokens that are kept,         TestNoAdministratorIsKept, TestLoginsOfOtherKinds,
//	or tokens that nobody uses                    TestWhatNobodyFinishesLeavesNoTokenAfterTenMinutes
//	inner hosts and plain HTTP in URLs            TestNothingBehindTheProxyIsSeen
//	floods, and limits that hit everybody;        TestFloodsAreBounded, TestHostileRequests
//	requests that no application sends
//	state of a gateway's own                      TestNothingIsWrittenToDisk
//	assertions of others                          TestMachines, TestTheSDKsEnterpriseHandlerSignsIn
//	a person whom a request names                 TestNoRequestCanNameAnotherPerson, TestTheAuditLogHasThePerson
//
// No test waits for fifteen minutes or sixty seconds: that a code ends after its minute, that
// the grace of a refresh does, and that a sign-in ends at session_max, is in the tests of
// gateway/signin, where the clock is the test's.
package signin
